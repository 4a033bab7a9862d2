"""Drift of simulated places: every op of one step, as the microscope judges it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.simulation import Call, Simulation
from diag.engine.faults.sums import reordered_sums
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.microscope import Microscope
from diag.engine.step.tracing import trace
from diag.machine.places import parse_place
from diag.verdict.drift import Drift, DriftTally
from tests import zoo

CPU = parse_place("CPU:0")
EXACT = {"AddV2": np.add, "Sub": np.subtract, "Mul": np.multiply, "RealDiv": np.divide}


def truth_of(call: Call) -> Any:
    if call.op_type not in EXACT or call.outputs[0].dtype != np.float32:
        return None
    with np.errstate(all="ignore"):
        truth = EXACT[call.op_type](*(x.astype(np.float64) for x in call.inputs))
    return truth if np.isfinite(truth).all() else None


def cuts_off(call: Call) -> Any:
    """Rounds towards zero."""
    truth, nearest = truth_of(call), call.outputs[0]
    if truth is None:
        return None
    return [np.where(np.abs(nearest) > np.abs(truth), np.nextafter(nearest, np.float32(0)), nearest)]


def the_other_neighbour(call: Call) -> Any:
    """Rounds half of the numbers to the neighbour that is further away: worse, and on both sides."""
    truth, nearest = truth_of(call), call.outputs[0]
    if truth is None:
        return None
    other = np.nextafter(nearest, np.where(truth > nearest, np.inf, -np.inf).astype(np.float32))
    return [np.where((nearest == truth) | (np.arange(nearest.size).reshape(nearest.shape) % 2 == 0), nearest, other)]


@pytest.fixture(scope="module")
def traced() -> Any:
    batch = zoo.batch_for(zoo.mlp)
    return trace(zoo.made(zoo.mlp), batch), [tf.constant(batch.inputs), tf.constant(batch.targets)]


def drift_of(traced: Any, candidate: Simulation | None, reference: Simulation | None = None) -> tuple[Drift, ...]:
    program, batch = traced
    state = program.initial_state()
    lanes = Lane("reference", CPU, reference, state), Lane("candidate", CPU, candidate, state)
    tally = DriftTally()
    tally.add(Microscope(program, lanes, 0).run(batch))
    return tally.found()


def test_a_place_that_cuts_off_every_sum_and_product(traced):
    (drift,) = drift_of(traced, Simulation("by hand", cuts_off))
    assert (drift.lane, drift.direction) == ("candidate", "towards zero")
    assert "Mul" in drift.op_types and set(drift.op_types) <= {*EXACT}
    assert drift.candidate_bias < -0.3 < 0.1 > abs(drift.reference_bias)
    (of_reference,) = drift_of(traced, None, Simulation("by hand", cuts_off))
    assert (of_reference.lane, of_reference.direction) == ("reference", "towards zero")


def test_controls(traced):
    assert drift_of(traced, None) == ()
    assert drift_of(traced, Simulation("by hand", the_other_neighbour)) == ()
    assert drift_of(traced, reordered_sums()) == ()
