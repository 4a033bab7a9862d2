"""Lockstep from Python: `diag.watch_fit`, `diag.compare_training`, `diag.assert_lockstep` and the `Report` they give.

Settings are the flags of `python -m diag.run` as keywords.  What is asked wrongly is a ValueError, in one line.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag.call_request import call_request, options_from
from diag.common.after_import import after_import
from diag.common.modes import PREDICT
from diag.common.notebook import CellEnded, is_notebook
from diag.errors import UserError
from diag.guest import as_guest
from diag.verdict.findings import Divergence
from diag.verdict.result import RunResult

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from rich.console import Console

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
    def sentence(self) -> str:
        """The verdict in one sentence, and what to do about it."""
        from diag.report.words import sentence

        return sentence(self.result)

    def sentence_of(self, divergence: Divergence) -> str:
        """One of `result.divergences` in one sentence."""
        return replace(self, result=replace(self.result, first_divergence=divergence)).sentence

    @property
    def losses(self) -> dict[str, list[float]]:
        """Of each lane, `reference` and `candidate`, the loss of every step; to predict, the mean of the outputs."""
        return {lane: list(losses) for lane, losses in self.result.losses.items()}

    @property
    def trace(self) -> Path:
        """The trace.h5 that the run wrote."""
        return Path(self.result.files["trace"])

    @property
    def ops(self) -> pd.DataFrame:
        """The ops that were looked at one by one, a row an output and step: a pandas DataFrame, see docs/TRACE.md.

        Raises:
            ImportError: pandas is not installed.
            ValueError: the trace is gone or damaged.
        """
        from traces.frames import op_frame

        with as_guest():
            return op_frame(self.trace)

    @property
    def excess(self) -> xr.DataArray:
        """Of each step and unit, the largest error over what rounding explains: an xarray DataArray (step, unit).

        float64; more than 1 is a divergence, NaN was not judged.

        Raises:
            ImportError: xarray is not installed.
            ValueError: the trace is gone or damaged.
        """
        from traces.frames import excess_array

        with as_guest():
            return excess_array(self.trace)

    def show(self, layer: str, rows: int = 20) -> str:
        """What was found about a layer, or about one variable: as text, the worst rows of each table, to be printed.

        Raises:
            ValueError: nothing was judged of such a layer, with those there are; or the trace is gone or damaged.
        """
        from traces.inspector.reading import opened
        from traces.inspector.rows import rows_of_layer
        from traces.views.rows import render_layer

        with as_guest(), opened(self.trace) as trace:
            tables = rows_of_layer(trace, layer)
        return _text(lambda console: console.print(*render_layer(tables, rows, _WIDTH), sep="\n"))

    def save(self, path: str | Path) -> None:
        """Write report.json; the page where the name ends in .html, the text where it ends in .txt.

        Raises:
            ValueError: it has another ending, or cannot be written.
        """
        from diag.common.files import write_json, write_report
        from diag.report import json_report

        path = Path(path)
        with as_guest():
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
        from diag.report import terminal

        return _text(lambda console: terminal.render(self.result, console))

    def _repr_html_(self) -> str:
        from diag.report.html import notebook_of

        return notebook_of(self.result)


def load(trace: str | Path) -> Report:
    """The report of a run from its trace, also of one that was killed, without TensorFlow.

    Raises:
        ValueError: it is no trace, or cannot be read.
    """
    from diag.report.recorded import recorded_result
    from traces.reader import TraceReader

    with as_guest(), TraceReader(Path(trace)) as opened:
        return Report(recorded_result(opened))


class DivergenceError(Exception):
    """A training was ended by a divergence, which the message says; `report` has it all."""

    def __init__(self, message: str, report: Report) -> None:
        super().__init__(message)
        self.report = report


def watch_fit(**settings: Any) -> None:
    """The next call of a Keras model's `fit` or `train_on_batch` is run in lockstep instead, and ends the program.

    Args:
        settings: as the flags of `python -m diag.run`: `candidate="GPU:0"`, `steps=50`, `call=2`, `and_train=True`, ...

    With `and_train=True` the program goes on, and trains as it would have.  The report is printed.  The program's exit
    code is that of the command; in a notebook only the cell ends.

    Raises:
        ValueError: it cannot be asked so.
    """
    with as_guest():
        options = options_from(settings)
        request = replace(call_request(options, _command("watch_fit", settings)), module="")
    source = Path(sys.argv[0]).name or "a session"
    ended: Callable[[int], BaseException] = SystemExit
    if is_notebook():
        source, ended = "a notebook", CellEnded

    def install() -> None:
        from diag.door import Door, watch

        watch(Door(request, source, lambda result: _print(result, request), options.call, options.and_train, ended))

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
            `mode="predict"` compares what `model.predict` computes instead: the model need not be compiled, of the
            data x is taken, and `fit` is what else `predict` would be given.

    Raises:
        ValueError: it cannot be asked so, or the model cannot be trained on the data.
    """
    from diag.machine.tensorflow_import import import_tensorflow

    chosen = {"mode": settings.pop("mode")} if "mode" in settings else {}
    named = {"reference": reference, "candidate": candidate, "steps": steps, **settings}
    with as_guest():
        request = call_request(options_from(named), _command("compare_training", {**named, **chosen}), **chosen)
        request = replace(request, module="", quiet=True)
        import_tensorflow()
        from diag.door import lockstep_of
        from diag.engine.training.fit_calls import call_of_fit, call_of_predict
        from diag.options import DEFAULT_STEPS

        if request.mode == PREDICT:
            call = call_of_predict(model, data, fit or {})
        else:
            epochs = request.steps or DEFAULT_STEPS  # each has a batch at least
            call = call_of_fit(model, data, {"epochs": epochs, **(fit or {})})
        return Report(lockstep_of(call, request, "data given to compare_training"))


def _text(render: Callable[[Console], object]) -> str:
    """What is printed, of a fixed width."""
    from diag.common.terminal import ReportConsole

    text = io.StringIO()
    render(ReportConsole(file=text, width=_WIDTH))
    return text.getvalue()


def assert_lockstep(model: Any, data: Any, **arguments: Any) -> Report:
    """For tests: `compare_training`, which has to find that rounding explains all that the candidate computes.

    Args:
        model, data, arguments: as of `compare_training`.  With `out=tmp_path / "run"` the trace is kept there.

    Raises:
        AssertionError: the candidate diverges, or nothing was judged; with the report's sentence and the trace's path.
        ValueError: as `compare_training`.
    """
    __tracebackhide__ = True  # pytest then shows the line that called this
    from diag.report.words import num_judged

    report = compare_training(model, data, **arguments)
    if report.verdict == "divergence" or not num_judged(report.result):
        raise AssertionError(f"{report.sentence} Trace: {report.result.files['trace']}")
    return report


def _print(result: RunResult, request: LockstepRequest) -> int:
    from diag.printing import print_result

    return print_result(result, request)


def _command(function: str, settings: dict[str, Any]) -> list[str]:
    """As it stands in a program, for the trace."""
    given = ", ".join(f"{name}={value!r}" for name, value in settings.items() if value is not None)
    return [f"diag.{function}({given})"]
