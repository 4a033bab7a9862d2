# make lockstep [ARGS="--steps 5"]    the demonstration, or any run of diag.lockstep
# make test                           ruff, mypy, import-linter, vulture and pytest
# make bench                          the speed ratios, written to docs/BENCHMARKS.md
# PYTHON=python3.12 chooses the Python that .venv is made with, the first time.

PYTHON ?= python3
VENV   ?= .venv
ARGS   ?=

python := $(VENV)/bin/python

.PHONY: lockstep test bench

# A divergence is what the demonstration is there to find, so finding one is no failure of make.
lockstep: $(VENV)/.installed
	@code=0; $(python) -m diag.lockstep $(ARGS) || code=$$?; \
	case $$code in \
	    0) echo "make lockstep: exit code 0, no divergence" >&2 ;; \
	    1) echo "make lockstep: exit code 1, a divergence was found" >&2 ;; \
	    *) exit $$code ;; \
	esac

test: $(VENV)/.installed-test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache
	$(VENV)/bin/vulture
	TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(VENV)/.installed
	@$(python) -m benchmarks --markdown docs/BENCHMARKS.md $(ARGS)

$(VENV)/.installed: pyproject.toml | $(python)
	@echo "Installing tf-lockstep into $(VENV); TensorFlow is large, the first time takes minutes" >&2
	@$(python) -m pip install -q -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml | $(python)
	@echo "Installing tf-lockstep with its test tools into $(VENV); the first time takes minutes" >&2
	@$(python) -m pip install -q -e '.[test]'
	@touch $(VENV)/.installed $@

$(python):
	@found="$$($(PYTHON) -c 'import platform as p; print(p.system(), p.machine(), p.python_version())')"; \
	case "$$found" in \
	    "Darwin arm64 3.13."*) \
	        echo "Python 3.13 has no tensorflow-metal, so no GPU on this Mac: PYTHON=python3.12 has it" >&2 ;; \
	    *" 3.1"[0-3].*) ;; \
	    *) echo "Expected Python 3.10 to 3.13. Choose one with PYTHON=python3.12." \
	            "Received: PYTHON=$(PYTHON) ($${found:-does not run})" >&2; exit 2 ;; \
	esac
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
