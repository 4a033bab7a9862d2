"""Drift over many ops: tensors rounded by hand, each held against float64 truth as the engine does."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from diag.numerics.bounds import allowance_bound
from diag.numerics.op_classes import ErrorClass
from diag.numerics.sign_test import chance_of_lean
from diag.numerics.statistics import against_truth, compare
from diag.verdict.drift import FALSE_ALARMS, DriftTally
from diag.verdict.findings import Observation, Verdict, Where

OPS = {"AddV2": np.add, "Mul": np.multiply, "Sqrt": lambda a, b: np.sqrt(np.abs(a * b))}


def to_nearest(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return truth.astype(np.float32)


def cut_off(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    nearest = truth.astype(np.float32)
    is_beyond = np.abs(nearest.astype(np.float64)) > np.abs(truth)
    return np.where(is_beyond, np.nextafter(nearest, np.float32(0)), nearest)


def a_tenth_lower(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """One element in ten a step down: a bias of 0.1 ULP."""
    nearest = truth.astype(np.float32)
    return np.where(random.random(truth.shape) < 0.1, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def worse_on_both_sides(truth: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Half of the elements a step off, up or down."""
    nearest = truth.astype(np.float32)
    off = random.choice(np.array([-np.inf, np.inf], np.float32), truth.shape)
    return np.where(random.random(truth.shape) < 0.5, np.nextafter(nearest, off), nearest)


def observed(index: int, op_type: str, candidate: Any, random: np.random.Generator, **more: Any) -> Observation:
    operands = random.normal(size=(2, 500)).astype(np.float32).astype(np.float64)
    truth = OPS[op_type](*operands)
    reference, x = (rounding(truth, random) for rounding in (more.pop("reference", to_nearest), candidate))
    of_lanes = [against_truth(each, truth) for each in (x, reference)]
    where = Where(more.pop("step", 0), "forward", "op", f"layer_{index}", None, op_type, index, order=index)
    bound = allowance_bound(of_lanes[0], 3.0, ErrorClass.ROUNDED_ONCE)
    return Observation(
        where, x.shape, "float32", Verdict.ROUNDING, bound, compare(reference, x), *of_lanes, **more
    )  # fmt: skip


def found(candidate: Any, number: int = 12, types: tuple[str, ...] = ("AddV2", "Mul", "Sqrt"), **more: Any) -> Any:
    random, tally = np.random.default_rng(0), DriftTally()
    tally.add(
        observed(index, op_type, candidate, random, **more)
        for index, (op_type, _) in enumerate(product(types, range(number)))
    )
    return tally.found()


def test_the_chance_of_signs_by_enumeration():
    weights = [3, 1, 4, 1, 5, 2]
    sums = np.array([np.dot(weights, signs) for signs in product((-1, 1), repeat=len(weights))])
    for lean in range(sum(weights) + 2):
        assert chance_of_lean(weights, lean) == pytest.approx(min(1.0, np.mean(np.abs(sums) >= lean)))
    assert chance_of_lean([8] * 40, 320) == pytest.approx(2.0**-39)
    assert chance_of_lean([], 0) == 1.0


def test_a_place_that_cuts_off_is_found():
    (drift,) = found(cut_off)
    assert (drift.lane, drift.op_types, drift.direction) == ("candidate", ("AddV2", "Mul", "Sqrt"), "towards zero")
    assert drift.num_ops == drift.num_leaning == 36
    assert drift.candidate_bias == pytest.approx(-0.5, abs=0.03)
    assert drift.reference_bias == pytest.approx(0, abs=0.03)
    assert 2.0**-36 < drift.chance < FALSE_ALARMS


def test_a_bias_of_a_tenth_of_an_ulp_in_one_kind_of_op_is_found():
    random, tally = np.random.default_rng(1), DriftTally()
    tally.add(observed(index, "Mul", a_tenth_lower, random) for index in range(40))
    tally.add(observed(100 + index, "AddV2", to_nearest, random) for index in range(40))
    (drift,) = tally.found()
    assert (drift.op_types, drift.direction) == (("Mul",), "down")
    assert drift.candidate_bias == pytest.approx(-0.1, abs=0.03)


def test_of_the_reference_it_is_said_of_the_reference():
    (drift,) = found(to_nearest, reference=cut_off)
    assert (drift.lane, drift.direction) == ("reference", "towards zero")


@pytest.mark.parametrize("candidate", [to_nearest, worse_on_both_sides])
def test_what_errs_on_both_sides_is_no_drift(candidate):
    assert found(candidate) == ()


def test_one_op_at_many_steps_and_divisions_by_one_number_are_one_figure_each():
    random, tally = np.random.default_rng(2), DriftTally()
    tally.add(observed(0, "Mul", cut_off, random, step=step) for step in range(40))
    tally.add(observed(index, "AddV2", cut_off, random, divisor=3.0) for index in range(1, 41))
    assert tally.found() == ()
    assert len(tally.ops) == 2


def test_ops_that_are_wrong_have_no_part_in_it():
    assert found(lambda truth, random: (truth * 1.001).astype(np.float32)) == ()


def test_ops_that_err_exactly_alike_count_once():
    """An optimizer's rate, computed again for every variable."""
    tally = DriftTally()
    tally.add(observed(index, "Sqrt", cut_off, np.random.default_rng(3)) for index in range(60))
    assert tally.found() == ()


@pytest.mark.slow
def test_false_alarms_of_coins():
    """Under rounding to nearest the chance is as rare as it says: below 1/20 in at most a twentieth of the runs."""
    random = np.random.default_rng(4)
    chances = []
    for _ in range(400):
        weights = random.integers(1, 9, 30)
        chances.append(chance_of_lean(list(weights), abs(int(weights @ random.choice((-1, 1), 30)))))
    assert np.mean(np.array(chances) < 0.05) < 0.05 + 3 * np.sqrt(0.05 / 400)
