"""The script `tf-lockstep`: all commands under one name, with the exit codes and words of `python -m`."""

from __future__ import annotations

import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import diag
from diag.__main__ import COMMANDS, completion, main
from diag.errors import UserError
from diag.machine.places import parse_place
from tests.processor_time import starts_in_half_a_second

ROOT = Path(__file__).parents[1]


def test_every_command_does_what_python_m_of_its_module_does():
    for command in COMMANDS.values():
        guarded = inspect.getsource(import_module(command.module)).rpartition('if __name__ == "__main__":\n')[2]
        assert guarded.strip() in (f"sys.exit({command.function}())", f"sys.exit({command.function}(sys.argv[1:]))")
    files = {path.stem for path in (ROOT / "diag").glob("*.py") if "__main__" in path.read_text()} - {"__main__"}
    assert files | {"probes", "traces"} <= set(COMMANDS)


@pytest.mark.parametrize("module", ["diag", "diag.lockstep", "probes", "traces"])
def test_help_is_given_in_half_a_second(module):
    assert starts_in_half_a_second("-m", module, "--help")


def test_the_script_starts_as_safely_and_speaks_by_its_name(tmp_path):
    script = tmp_path / "tf-lockstep"
    script.write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT)!r})\nfrom diag.__main__ import main\nsys.exit(main())\n"
    )

    def run(*words: str) -> tuple[int, str, str]:
        done = subprocess.run([sys.executable, script, *words], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    assert run("traces", "--version") == (0, f"tf-lockstep {diag.__version__}\n", "")
    code, out, err = run("replay", "absent.h5", "--stop=3")
    assert (code, out) == (2, "") and err == (
        "tf-lockstep replay: the following arguments are required: --step; did you mean --step?; see --help\n"
    )
    code, out, err = run("compare", "absent.h5", "absent.h5")  # in a child of its own
    assert (code, out, err.count("\n")) == (2, "", 1) and err.startswith("compare: ")
    (tmp_path / ".numba_config.yaml").touch()
    code, out, err = run("doctor")
    assert (code, out, err.count("\n")) == (2, "", 1) and "numba would take its settings" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "COMMAND"),
        (["lockstp"], "there is no 'lockstp'; expected one of run, lockstep, "),
        (["lockstp"], "did you mean lockstep?"),
        (["lockstep", "--candiate", "GPU:0"], "unrecognized arguments: --candiate GPU:0; did you mean --candidate?"),
        (["lockstep", "--cand", "GPU:0"], "unrecognized arguments: --cand GPU:0"),
        (["traces", "show", "trace.h5", "--stpes=3"], "traces show: unrecognized arguments: --stpes=3; did you mean"),
        (["run", "--stesp", "3", "train.py", "--epoch", "3"], "unrecognized arguments: --stesp; did you mean --steps?"),
        (["traces", "lss", "trace.h5"], "invalid choice: 'lss'"),
        (["traces", "lss", "trace.h5"], "did you mean ls?"),
        (["graph", "--policy=mixed_float"], "did you mean mixed_float16?"),
        (["doctor", "--xyzzy"], "unrecognized arguments: --xyzzy; see --help"),
    ],
)  # fmt: skip
def test_what_there_is_not_is_one_line_with_what_is_like_it(words, said, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert (ended.value.code, out, err.count("\n")) == (2, "", 1)
    assert said in err


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("GPU0", "GPU:0"), ("gpu", "GPU:0"), ("cuda:1/xla", "GPU:1/xla"), ("/device:GPU:2", "GPU:2"),
        ("cpu:0/graf/mixed_float", "CPU:0/graph/mixed_float16"), ("metal-fused-dense", None), ("CPU:0/fast", None),
    ],
)  # fmt: skip
def test_a_place_that_is_nearly_one(given, meant):
    with pytest.raises(UserError) as refused:
        parse_place(given)
    assert (f"did you mean {meant}?" in str(refused.value)) == (meant is not None)
    assert ("did you mean" in str(refused.value)) == (meant is not None)
    assert meant is None or parse_place(meant)


def test_bash_completes_commands_flags_choices_and_files(tmp_path):
    pytest.importorskip("shtab")
    (tmp_path / "trace.h5").touch()
    program = tmp_path / "completion.bash"
    program.write_text(
        f"{completion('bash')}\n"
        "for words in lo 'lockstep --refe' 'lockstep --follow f' 'traces e' 'replay tra'; do\n"
        "  COMP_WORDS=(tf-lockstep $words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1))\n"
        "  _shtab_tf_lockstep; echo ${COMPREPLY[@]}\ndone\n"
    )
    done = subprocess.run(["bash", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.split("\n") == ["lockstep", "--reference", "free", "export", "trace.h5", ""], done.stderr
    assert completion("zsh").startswith("#compdef tf-lockstep\n")
