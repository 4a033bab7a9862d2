"""The three baselines on tensors made by hand; their tables."""

from __future__ import annotations

import numpy as np
import pytest

from tests.faults.baselines import Named, Seen, allclose, cradle, polygraphy
from tests.faults.catalogue import Planting
from tests.faults.planting import Aim, Strike
from tests.faults.scoring import Score
from tests.faults.table import table

ONES = np.ones(4, np.float32)


def seen(layer: str, error: float, phase: str = "forward", before: tuple[int, ...] = ()) -> Seen:
    return Seen(phase, layer, None, ONES, ONES + np.float32(error), before)


@pytest.mark.parametrize(("error", "fails"), [(1e-3, False), (1.2e-3, True)])
def test_allclose_allows_a_thousandth_and_a_tenth_of_that(error, fails):
    """1e-3 * 1 + 1e-4."""
    assert (allclose({0: [seen("a", error)]}) is not None) is fails


def test_polygraphy_wants_both_tolerances_exceeded():
    small = Seen("forward", "a", None, np.float32([1e-6]), np.float32([3e-6]))  # far off, but by 2e-6
    large = Seen("forward", "b", None, np.float32([1e4]), np.float32([1e4 + 0.05]))  # by 0.05, of 10,000
    both = Seen("forward", "c", None, np.float32([1.0]), np.float32([1.0001]))
    assert polygraphy({0: [small, large]}) is None
    assert polygraphy({0: [small, large, both]}) == Named(0, "forward", "c")


def test_cradle_names_the_layer_that_the_difference_grows_most_in():
    """Scores by hand: a 1e-7 / 1e-7 = 1; b (4e-6 - 1e-7) / 2e-7 = 19.5; c (1.2e-5 - 4e-6) / 4.1e-6 = 1.95."""
    steps = {0: [seen("a", 1e-7), seen("b", 4e-6, before=(0,)), seen("c", 1.2e-5, before=(1,))]}
    assert cradle(steps) == Named(0, "forward", "b")
    assert cradle({0: [seen("a", 1e-8)]}) is None


def test_the_first_step_and_what_is_handed_on_first():
    steps = {1: [seen("late", 1.0)], 0: [seen("a", 0.0), seen("b", 1.0), seen("c", 1.0)]}
    assert allclose(steps) == Named(0, "forward", "b")


def test_named_where_it_struck():
    strike = Strike(1, 1, 9, "MatMul", "dense", None, 1.0)
    assert Named(1, "backward", "dense").is_at([strike], {})
    for elsewhere in (Named(0, "backward", "dense"), Named(1, "forward", "dense"), Named(1, "backward", "other")):
        assert not elsewhere.is_at([strike], {})


def test_where_the_layer_is_not_watched_the_next_tensor_is_as_good():
    strike = Strike(1, 0, 9, "MatMul", "hidden", None, 1.0)
    before, after, later = (
        Seen("forward", name, None, ONES, ONES, order=n) for name, n in zip("abc", (8, 11, 12), strict=True)
    )
    steps = {1: [before, after, later]}
    assert Named(1, "forward", "b").is_at([strike], steps)
    assert not Named(1, "forward", "a").is_at([strike], steps)
    assert not Named(1, "forward", "c").is_at([strike], steps)


def test_a_table_counts_by_fault():
    planting = Planting("sim:tf32", "zoo.py:mlp", ("format:tf32",))
    strike = Strike(0, 0, 1, "MatMul", "dense", None, 1.0)
    said = {
        "step": 0, "phase": "forward", "unit": "op", "op_index": 1, "op_type": "MatMul", "layer": "dense",
        "variable": None, "cause": "format:bf16", "blame": "kernel",
    }  # fmt: skip
    others = {"allclose": None, "CRADLE": Named(0, "forward", "dense"), "Polygraphy": Named(0, "forward", "other")}
    rights = {"allclose": False, "CRADLE": True, "Polygraphy": False}
    nothing, right = dict.fromkeys(others), dict.fromkeys(others, True)
    control = Score(Planting("CPU:0/eager", "zoo.py:mlp"), (), "rounding", None, "", 0.0, nothing, right)
    lines = table([Score(planting, (strike,), "divergence", said, "", 0.0, others, rights), control]).splitlines()
    cells = [[cell.strip() for cell in each.strip("|").split("|")] for each in lines]
    assert cells[0] == ["fault", "planted", "step and op", "cause", "blame", "all", "allclose", "CRADLE", "Polygraphy"]
    assert cells[2] == ["sim:tf32", "1", "1", "0", "1", "0", "0", "1", "0"]
    assert cells[-1] == ["control: CPU:0/eager", "1", "1", "", "", "", "1", "1", "1"]


def test_an_aim_is_the_seeds_alone():
    assert {Aim(3, seed).step for seed in range(20)} == {0, 1, 2}
    assert Aim(3, 5).step == Aim(3, 5).step
