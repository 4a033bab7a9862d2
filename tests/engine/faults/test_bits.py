"""One bit of one element of one op, in one step."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from diag.engine.faults.bits import OneBit, candidates, flipped
from diag.engine.graphs.graph import Port
from diag.engine.step.tracing import trace

SEEDS = range(3)  # one for each step that it can strike in


@pytest.mark.parametrize("dtype, worth", [("float64", 10), ("float32", 10), ("float16", 10), (ml_dtypes.bfloat16, 7)])
def test_the_bit_is_worth_a_fraction_of_the_leading_one(dtype, worth):
    array = np.array([0, 1, 0, 0], dtype)
    found = flipped(array, 0.0)
    np.testing.assert_array_equal(found, np.array([0, 1 + 2.0**-worth, 0, 0], dtype))
    np.testing.assert_array_equal(flipped(found, 0.9), array)


def test_the_element_is_the_first_normal_number_from_there():
    array = np.array([[3, 0, np.inf], [np.nan, 1e-40, -5]], np.float32)
    places = [np.flatnonzero(array.view("u4") != flipped(array, k / 6).view("u4")).tolist() for k in range(6)]
    assert places == [[0], [5], [5], [5], [5], [5]]
    assert np.flatnonzero(flipped(np.array([1, 0, 0], np.float32), 0.5) != [1, 0, 0]).tolist() == [0]


def test_where_there_is_no_number_nothing_flips():
    array = np.zeros((2, 3), np.float32)
    np.testing.assert_array_equal(flipped(array, 0.5), array)


@pytest.mark.parametrize("seed", SEEDS)
def test_exactly_one_bit_changes_and_the_same_in_both_executions(train, perceptron, seed):
    struck = []
    for execution in ("graph", "eager"):
        training = train(f"sim:one-bit/{execution}", *perceptron(), seed=seed)
        training.run(4)
        (changed,) = training.changed
        (element,) = changed.elements
        old, new = (arrays[element[0]].reshape(-1).view("u4") for arrays in (changed.call.outputs, changed.outputs))
        assert old[element[1]] ^ new[element[1]] == 1 << 13
        assert changed.call.step == seed % 3
        struck.append((changed.call.index, element))
    assert struck[0] == struck[1]


def test_seeds_choose_other_ops(perceptron):
    program = trace(*perceptron())
    chosen = set()
    for seed in range(50):
        fault = OneBit()
        fault.bind(program, seed)
        chosen.add(fault.index)
    assert len(chosen) > 20


def test_candidates_are_ops_that_compute_numbers_somebody_reads(perceptron):
    program = trace(*perceptron())
    found = candidates(program)
    ops = {program.graph.by_name[port.node].op for port in found}
    assert {"MatMul", "BiasAdd", "Relu", "ReluGrad", "BiasAddGrad", "Sqrt"} <= ops
    assert not {"Identity", "ReadVariableOp", "Reshape", "Const"} & ops
    read = {port for node in program.graph for port in node.inputs}
    assert all(port in read and program.graph.shape(port).num_elements() >= 2 for port in found)
    assert all(isinstance(port, Port) for port in found)


def test_unbound_it_says_so():
    with pytest.raises(RuntimeError, match="not bound"):
        OneBit()(None)
