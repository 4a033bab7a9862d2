"""Hypotheses about earlier executions: a result that depends on more than the op's inputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from diag.causes.wrong_output import Array, EarlierExecution, WrongOutput
from diag.numerics.bits import same_bits
from diag.verdict.findings import Cause


def unrepeated(case: WrongOutput) -> Iterator[Cause]:
    """Not the same twice on the same inputs, and right in one of the runs: no fixed error explains it."""
    if case.repeated is None or same_bits(case.repeated, case.output):
        return
    if _excess_of(case, case.repeated) <= 1:
        summary = "wrong in one run and right in the next, on the same inputs"
        yield Cause("nondeterminism", summary)


def never_the_same(case: WrongOutput) -> Iterator[Cause]:
    """Wrong in both runs, and further apart than rounding brings two runs: a race that is lost each time elsewhere."""
    again = case.repeated
    if case.judge is None or again is None or not np.isfinite(again).all() or same_bits(again, case.output):
        return
    if case.excess_against(again.astype(np.float64)) > 1:
        yield Cause("nondeterminism", "wrong in each run, but never the same, on the same inputs")


def depends_on_history(case: WrongOutput) -> Iterator[Cause]:
    """Right in isolation, with nothing remembered; wrong, and the same, wherever the place remembers."""
    if case.isolated is None or same_bits(case.isolated, case.output) or _excess_of(case, case.isolated) > 1:
        return
    known = next(stale(case), None)
    summary = "right when it is replayed by itself, with nothing remembered"
    yield Cause("stale-data", summary) if known is None else known.with_facts(isolated=summary)


def stale(case: WrongOutput) -> Iterator[Cause]:
    """What the op gave at an earlier step, or rows that an earlier, larger batch left behind."""
    if case.judge is None:
        return
    for earlier in case.earlier():
        if earlier.output.shape == case.output.shape and _is_known_by(case, earlier.output):
            excess = case.excess_against(earlier.output.astype(np.float64))
            if excess <= 1:
                summary = f"what the op gave at step {earlier.step}"
                yield Cause("stale-data", summary, {"of_step": earlier.step, "remaining_excess": excess})
                return
        inputs = _with_old_rows(case, earlier)
        excess = np.inf if inputs is None else _excess_with_rows(case, earlier, inputs)
        if excess <= 1:
            rows = _rows(case, earlier)
            which = f"rows {rows[0]} to {rows[1] - 1}" if rows[1] - rows[0] > 1 else f"row {rows[0]}"
            summary = f"{which} of step {earlier.step}'s larger batch still summed"
            yield Cause("stale-data", summary, {"of_step": earlier.step, "remaining_excess": excess})
            return


def _is_known_by(case: WrongOutput, earlier: Array) -> bool:
    """Whether an earlier output is told apart from what is right now; equal ones explain nothing."""
    return not np.array_equal(earlier.astype(np.float64), case.truth)


def _with_old_rows(case: WrongOutput, earlier: EarlierExecution) -> list[Array] | None:
    """The inputs with the rows of an earlier, larger batch behind their own."""
    inputs, found = [], False
    for now, then in zip(case.inputs, earlier.inputs, strict=True):
        grew = (
            now.dtype == np.float64 and now.ndim > 0 and then.ndim == now.ndim
            and then.shape[1:] == now.shape[1:] and len(then) > len(now)
        )  # fmt: skip
        inputs.append(np.concatenate([now, then[len(now) :]]) if grew else now)
        found |= grew
    return inputs if found else None


def _rows(case: WrongOutput, earlier: EarlierExecution) -> tuple[int, int]:
    pairs = zip(case.inputs, earlier.inputs, strict=True)
    return next((len(now), len(then)) for now, then in pairs if now.ndim and now.shape != then.shape)


def _excess_with_rows(case: WrongOutput, earlier: EarlierExecution, inputs: list[Array]) -> float:
    """The sum over all rows; or that with the divisor of the few, where it is a mean."""
    few, many = _rows(case, earlier)
    truth = None if case.recompute is None else case.recompute(inputs)
    if truth is None or truth.shape != case.output.shape:
        return float("inf")
    return min(case.excess_against(truth), case.excess_against(truth * (many / few)))


def _excess_of(case: WrongOutput, other: Array) -> float:
    """How far out of bound another run's output is: held against truth as the output itself is."""
    return float("inf") if case.judge_other is None else case.judge_other(other).excess
