"""Lockstep from Python: `diag.watch_fit`, `diag.compare_training` and the `Report` that it gives.

Settings are the flags of `python -m diag.run` as keywords.  What is asked wrongly is a ValueError, in one line.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.call_request import call_request, options_from
from diag.common.after_import import after_import
from diag.errors import UserError
from diag.verdict.findings import Divergence
from diag.verdict.result import RunResult

if TYPE_CHECKING:
    from diag.request import LockstepRequest

_WIDTH = 100  # columns of a report's text


@dataclass(frozen=True)
class Report:
    """What a lockstep run found.  In a notebook it shows itself; `print` shows the same text."""

    result: RunResult

    @property
    def verdict(self) -> str:
        """`identical`, `rounding` or `divergence`."""
        return self.result.verdict

    @property
    def first(self) -> Divergence | None:
        """The first unit, in order of execution, whose error rounding does not explain; None where there is none."""
        return self.result.first_divergence

    @property
    def losses(self) -> dict[str, list[float]]:
        """Of each lane, `reference` and `candidate`, the loss of every step."""
        return {lane: list(losses) for lane, losses in self.result.losses.items()}

    def save(self, path: str | Path) -> None:
        """Write report.json; the page where the name ends in .html, the text where it ends in .txt.

        Raises:
            ValueError: it has another ending, or cannot be written.
        """
        from diag.common.files import write_json, write_report
        from diag.report import json_report

        path = Path(path)
        with _as_value_errors():
            if path.suffix == ".json":
                write_json(path, json_report.report(self.result))
            elif path.suffix == ".txt":
                write_report(path, str(self))
            elif path.suffix == ".html":
                write_report(path, self._page())
            else:
                raise UserError(f"{path}: a report is saved as .html, .json or .txt; name such a file")

    def issue(self) -> str:
        """Markdown for an issue at who made the device or the framework."""
        from diag.report.issue import issue_of

        return issue_of(self.result)

    def _page(self) -> str:
        """report.html, with the tables of the trace if that is still where it was written."""
        from diag.report.html import page_of
        from traces.reader import TraceReader

        path = self.result.files.get("trace")
        if path is None or not Path(path).exists():
            return page_of(self.result)
        with TraceReader(path) as trace:
            return page_of(self.result, trace)

    def __str__(self) -> str:
        from diag.common.terminal import ReportConsole
        from diag.report import terminal

        text = io.StringIO()
        terminal.render(self.result, ReportConsole(file=text, width=_WIDTH))
        return text.getvalue()

    def _repr_html_(self) -> str:
        from diag.report.html import notebook_of

        return notebook_of(self.result)


def watch_fit(**settings: Any) -> None:
    """The next call of a Keras model's `fit` or `train_on_batch` is run in lockstep instead, and ends the program.

    Args:
        settings: as the flags of `python -m diag.run`: `candidate="GPU:0"`, `steps=50`, `call=2`, `and_train=True`, ...

    With `and_train=True` the program goes on, and trains as it would have.  The report is printed.  The program's exit
    code is that of the command.

    Raises:
        ValueError: it cannot be asked so.
    """
    with _as_value_errors():
        options = options_from(settings)
        request = replace(call_request(options, _command("watch_fit", settings)), module="")
    source = Path(sys.argv[0]).name or "a session"

    def install() -> None:
        from diag.door import Door, watch

        watch(
            Door(request, source, lambda result: _print(result, request), options.call, options.and_train, SystemExit)
        )

    after_import("keras", install)


def compare_training(
    model: Any,
    data: Any,
    *,
    reference: str = "CPU:0",
    candidate: str | None = None,
    steps: int | None = None,
    fit: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Report:
    """Train a compiled Keras model on the same batches in two places in lockstep; the model itself is left as it is.

    Args:
        data: whatever `model.fit` takes as x; or a tuple (x, y) or (x, y, sample_weight).
        reference, candidate: places, as in the command; a candidate of None is the first GPU, or a simulated place.
        steps: at most so many, epochs following each other (default: 20).
        fit: what else `model.fit` would be given: `{"batch_size": 64, "class_weight": {0: 1.0, 1: 3.0}}`.
        settings: other flags of `python -m diag.run`, such as `out="runs/mine"`, `follow="free"`, `units="op"`.

    Raises:
        ValueError: it cannot be asked so, or the model cannot be trained on the data.
    """
    from diag.machine.tensorflow_import import import_tensorflow

    named = {"reference": reference, "candidate": candidate, "steps": steps, **settings}
    with _as_value_errors():
        request = call_request(options_from(named), _command("compare_training", named))
        request = replace(request, module="", quiet=True)
        import_tensorflow()
        from diag.door import lockstep_of
        from diag.engine.training.fit_calls import call_of_fit
        from diag.options import DEFAULT_STEPS

        epochs = request.steps or DEFAULT_STEPS  # each has a batch at least
        call = call_of_fit(model, data, {"epochs": epochs, **(fit or {})})
        return Report(lockstep_of(call, request, "data given to compare_training"))


def _print(result: RunResult, request: LockstepRequest) -> int:
    from diag.printing import print_result

    return print_result(result, request)


def _command(function: str, settings: dict[str, Any]) -> list[str]:
    """As it stands in a program, for the trace."""
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
    return [f"diag.{function}({given})"]


@contextmanager
def _as_value_errors() -> Iterator[None]:
    try:
        yield
    except UserError as error:
        raise ValueError(str(error)) from error
