"""Subjects: functions run at a place, eagerly and compiled; faults and rewriters strike; no device is made up."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from diag.errors import UserError
from diag.machine.places import parse_place
from probes.frame.device import DeviceUnderTest

REWRITER = """
def negate(graph_def):
    for node in graph_def.node:
        if node.op == "Relu":
            node.op = "Neg"
    return graph_def
"""
COUNTING = """
def fault(call):
    if call.op_type == "AddV2":
        call.memory["calls"] = call.memory.get("calls", 0) + 1
        return [call.outputs[0] + 100 * call.step + call.memory["calls"]]
"""
X = np.array([-1.0, 2.0], np.float32)


def device(place: str, execution: str = "eager") -> DeviceUnderTest:
    return DeviceUnderTest(parse_place(place, execution))


@pytest.mark.parametrize("execution", ["eager", "graph", "xla"])
def test_it_computes_what_numpy_does_in_several_shapes_and_dtypes(execution):
    doubled = device("CPU:0", execution).computation(lambda x: [x + x, tf.reduce_sum(x)])
    for x in (X, np.ones((2, 3), np.float16), np.ones(4, ml_dtypes.bfloat16), np.arange(3, dtype=np.int32)):
        both, total = doubled(x)
        assert both.dtype == x.dtype
        np.testing.assert_array_equal(both, 2 * x)
        assert total == x.sum()


def test_results_are_not_overwritten_by_the_next_call():
    computation = device("CPU:0").computation(lambda x: x * 2)
    (first,) = computation(X)
    computation(10 * X)
    np.testing.assert_array_equal(first, 2 * X)


def test_a_rewriter_strikes_what_is_compiled_and_nothing_else(tmp_path):
    (tmp_path / "own.py").write_text(REWRITER)
    place = f"rewrite:{tmp_path / 'own.py'}:negate"
    (compiled,), (eager,) = (device(place, how).run(tf.nn.relu, X) for how in ("graph", "eager"))
    np.testing.assert_array_equal(compiled, -X)
    np.testing.assert_array_equal(eager, np.maximum(X, 0))


@pytest.mark.parametrize("execution", ["eager", "graph"])
def test_each_call_is_a_step_and_the_memory_stays(tmp_path, execution):
    (tmp_path / "own.py").write_text(COUNTING)
    computation = device(f"sim:{tmp_path / 'own.py'}:fault", execution).computation(lambda x: x + 0)
    (first,), (second,) = computation(np.zeros(1, np.float32)), computation(np.zeros(1, np.float32))
    assert (first[0], second[0]) == (1.0, 102.0)


def test_a_variable_made_at_the_place_keeps_its_state():
    variable = tf.Variable(1.0)
    computation = device("CPU:0", "graph").computation(lambda x: variable.assign_add(x))
    assert [float(computation(np.float32(2))[0]) for _ in range(2)] == [3.0, 5.0]


@pytest.mark.parametrize(
    "place, says",
    [("GPU:7", "this machine has no GPU:7"), ("sim:none-such", "unknown"), ("sim:tf32/xla", "cannot run inside XLA")],
)
def test_places_that_are_not_there_are_refused(place, says):
    with pytest.raises(UserError, match=says):
        device(place)


def test_the_graph_of_a_function_is_at_hand():
    ops = [node.op for node in device("CPU:0").computation(lambda x: tf.exp(x) + 1).graph(X)]
    assert "Exp" in ops and "AddV2" in ops
