"""A few plantings of the catalogue; the whole of it is `python -m tests.faults`."""

from __future__ import annotations

import json
import pkgutil
from dataclasses import replace

import numpy as np
import pytest

from diag.common.jsonable import json_safe
from tests.faults.__main__ import task_of
from tests.faults.baselines import Named
from tests.faults.catalogue import Planting, plantings
from tests.faults.planting import Strike, Strikes, _change, _steps
from tests.faults.scoring import Score, score, score_in, score_of

# One of each kind of evidence: a place's memory, partial sums, a dtype, the step before, a race; and a control.
QUICK = (
    "sim:stale-partial-batch in mlp",
    "sim:fp16-accumulate in broad/mixed_float16",
    "sim:fp16-adam-epsilon in mlp",
    "sim:of_the_step_before_elsewhere in broad",
    "sim:half_the_time in broad",
    "sim:reordered-sums in cnn",
)


@pytest.mark.parametrize("name", QUICK)
def test_planted_and_found(name, tmp_path):
    (planting,) = [each for each in plantings() if each.name == name]
    found = score(planting, tmp_path / "out")
    assert found.was_planted
    assert found.is_right, (found.verdict, found.first, found.struck)


def test_every_planting_is_one_of_its_own():
    names = [each.name for each in plantings()]
    assert len(set(names)) == len(names) > 100
    tasks = [task_of(each) for each in plantings()]
    assert len({task.key.casefold() for task in tasks}) == len(names)
    assert {pkgutil.resolve_name(task.function) for task in tasks} == {score_of}
    assert {each.blame for each in plantings()} >= {"kernel", "graph-rewriter", "state-update", "framework"}


# ---- the scoring itself

FAULT = Planting("sim:none", "model", ("format:tf32",))
CONTROL = Planting("sim:none", "model")
STRUCK = Strike(1, 0, 7, "MatMul", "dense", None, 1.0, 100.0)
SAID = {
    "step": 1, "phase": "forward", "unit": "op", "op_type": "MatMul", "op_index": 7, "layer": "dense", "variable": None,
    "cause": "format:tf32-rne", "blame": "kernel",
}  # fmt: skip


def scored(planting: Planting = FAULT, said: dict | None = SAID, verdict: str = "divergence", **changed) -> Score:
    first = None if said is None else {**said, **changed}
    return Score(planting, (STRUCK,), verdict, first, "", 0.0)


def test_what_is_named_exactly_is_right():
    assert scored().is_right


@pytest.mark.parametrize(
    ("changed", "rights"),
    [
        ({"step": 0}, (False, True, True)), ({"phase": "backward"}, (False, True, True)),
        ({"op_index": 8}, (False, True, True)), ({"cause": "unknown"}, (True, False, True)),
        ({"blame": "xla"}, (True, True, False)),
    ],
)  # fmt: skip
def test_what_is_not_is_wrong(changed, rights):
    found = scored(**changed)
    assert (found.place_is_right, found.cause_is_right, found.blame_is_right) == rights


def test_a_score_comes_back_from_json_as_it_was():
    found = replace(scored(), others={"CRADLE": Named(1, "forward", None), "allclose": None}, notes="noted")
    assert score_in(json.loads(json.dumps(json_safe(found))), FAULT) == found


def test_nothing_found_is_wrong_and_right_of_a_control():
    assert not scored(said=None, verdict="rounding").is_right
    assert scored(CONTROL, None, "rounding").is_right
    assert not scored(CONTROL).is_right


def test_the_first_strike_that_is_no_rounding():
    rounding = Strike(0, 0, 3, "MatMul", "dense", None, 1e-8, 1.0)
    tie = Strike(0, 1, 9, "MatMul", "dense", None, 1e-3, 1.0)
    strikes = Strikes({rounding, tie, STRUCK})
    assert strikes.first() == (tie,)
    assert strikes.first(least_steps=1) == (tie, STRUCK)


def test_changes_by_hand():
    x = np.array([1, -2, 0.5], np.float32)
    y = x.copy()
    y[1] = -2.5
    assert _change(x, x) == 0.0
    assert _change(x, y) == pytest.approx(0.25)
    assert _change(x, np.array([1, np.nan, 0.5], np.float32)) == float("inf")
    assert _steps(x, np.nextafter(x, np.float32(9))) == 1
    assert _steps(np.float32([2**-149]), np.float32([-(2**-149)])) == 2
