"""Pinning and splitting: what is left of the graph, and that nothing is computed differently."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.attribution.edits import edit_of, pinned_where, split_of
from diag.engine.graphs.editing import make_node
from diag.engine.graphs.locations import FORWARD
from diag.engine.graphs.pinning import is_pinned, pin_in, restored
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.tracing import trace
from diag.machine.places import parse_place
from tests.zoo import batch_for, made, mlp


def chain(*nodes):
    graph_def = tf.compat.v1.GraphDef()
    for name, op, inputs in nodes:
        graph_def.node.append(make_node(name, op, inputs, **{"dtype" if op == "Placeholder" else "T": tf.float32}))
    return graph_def


BEFORE = (
    ("x", "Placeholder", []), ("product", "Neg", ["x:0"]), ("sum", "Abs", ["product:0"]),
    ("relu", "Relu", ["sum:0", "^x"]), ("after", "Neg", ["relu:0"]),
)  # fmt: skip
FUSED = (("x", "Placeholder", []), ("relu", "FusedThing", ["x:0"]), ("after", "Abs", ["relu:0"]))


def written(graph_def):
    return {(node.name, node.op, tuple(node.input)) for node in graph_def.node}


def test_a_pinned_node_is_restored_with_all_that_it_reads():
    before = pin_in(chain(*BEFORE), {"relu"})
    assert written(restored(before, chain(*FUSED))) == {
        *((name, op, tuple(inputs)) for name, op, inputs in BEFORE[:4]),
        ("after", "Abs", ("relu:0",)),  # not pinned: as the rewriter left it
    }


def test_a_rewriter_has_its_way_with_what_is_not_pinned():
    assert written(restored(chain(*BEFORE), chain(*FUSED))) == written(chain(*FUSED))


def test_pinning_leaves_the_graph_that_was_given_alone():
    given = chain(*BEFORE)
    assert [node.name for node in pin_in(given, {"sum"}).node if is_pinned(node)] == ["sum"]
    assert not any(map(is_pinned, given.node))


@pytest.fixture(scope="module")
def program():
    return trace(made(mlp), batch_for(mlp))


def test_a_layer_is_split_before_the_op_that_makes_its_output(program):
    found = split_of(program, "dense")
    assert found is not None and (found.source_op, found.op) == ("BiasAdd", "Relu")
    assert split_of(program, "loss") is None


@pytest.mark.parametrize("name", ["split:dense", "cpu:dense_1"])
def test_an_edit_changes_no_bit_on_the_cpu(program, name):
    batch = batch_for(mlp)
    inputs = [tf.constant(batch.inputs), tf.constant(batch.targets)]
    plain = Lane.at("plain", parse_place("CPU:0"), program, 0)
    edited = Lane.at("edited", parse_place("CPU:0"), program, 0, [edit_of(name, program)])
    for lane in (plain, edited):
        CompiledSteps(lane, program).run(inputs, ())
    for mine, theirs in zip(plain.variables, edited.variables, strict=True):
        np.testing.assert_array_equal(to_numpy(mine), to_numpy(theirs))


def test_pinned_ops_are_those_of_the_site_alone(program):
    edit = pinned_where(lambda location: location.layer == "dense" and location.phase == FORWARD)
    changed = edit(program.step((program.loss,)))
    pinned = {node.op for node in changed.graph_def.node if is_pinned(node)}
    assert pinned == {"MatMul", "BiasAdd", "Relu"}
    assert {node.op for node in changed.graph if node.proto is not None and is_pinned(node.proto)} == pinned


def test_a_pinned_op_is_placed_on_the_cpu_where_all_the_rest_is_on_the_gpu():
    """As a place with a GPU imports it; no GPU is needed to see where TensorFlow was asked to put it."""
    with tf.Graph().as_default() as graph, tf.device("GPU:0"):
        tf.graph_util.import_graph_def(pin_in(chain(*BEFORE[1:2], *BEFORE[:1]), {"product"}), name="")
    placed = {op.name: op.device for op in graph.get_operations()}
    assert placed["product"].endswith("CPU:0") and placed["x"].endswith("GPU:0")
