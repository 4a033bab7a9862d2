"""What TensorFlow rewrote, against graphs whose fusions are known: TensorFlow's own, and hand-made ones.

TensorFlow's remapper fuses MatMul, BiasAdd and Relu, and Conv2D likewise, on every CPU
(grappler/optimizers/remapper.cc); only which library's kernel takes the place depends on the machine.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import graph_of
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.unit_runs import units_of
from diag.engine.rewrites import optimized
from diag.engine.rewrites.graph_collection import CollectedGraph
from diag.engine.rewrites.optimized import Rewrite, difference, inspect, inspect_step, read_graph
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.engine.step.watching import worth_watching
from diag.errors import UserError
from diag.machine.places import parse_place
from diag.verdict.rewrites import RewriteDifference
from tests import zoo

CPU = parse_place("CPU:0")


def lane_at(program: Program, place: str = "CPU:0") -> Lane:
    return Lane.at("candidate", parse_place(place), program, 0)


@pytest.fixture(scope="module")
def cnn() -> Program:
    return trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn))


@pytest.fixture(scope="module")
def unwatched(cnn) -> optimized.OptimizedStep:
    return inspect_step(cnn, lane_at(cnn))


def ops_of(change: Rewrite) -> list[str]:
    return [part.op for part in change.parts]


def forward(step: optimized.OptimizedStep, layer: str) -> list[list[str]]:
    return [ops_of(c) for c in step.fusions if c.layers == (layer,) and c.parts[0].phase == "forward"]


def test_the_fusions_of_a_training_step_are_named_with_their_layers(unwatched):
    step = unwatched
    assert step.is_known
    assert forward(step, "dense") == [["MatMul", "BiasAdd", "Relu"]]
    assert forward(step, "conv") == [["Conv2D", "BiasAdd", "Relu"]]
    (dense,) = [c for c in step.fusions if c.layers == ("dense",) and c.parts[0].phase == "forward"]
    assert "FusedMatMul" in dense.op and dense.detail == "BiasAdd+Relu"
    assert [part.index for part in dense.parts] == sorted(part.index for part in dense.parts)


def test_what_nothing_needs_is_said_to_be_unused(cnn, unwatched):
    """The loss is computed from the logits, so nothing reads the softmax, nor the gradient of the images."""
    unused = {part.op for part in unwatched.absent["unused"]}
    assert {"Softmax", "Conv2DBackpropInput"} <= unused
    watched_tensors = inspect_step(cnn, lane_at(cnn), cnn.layer_outputs["classes"])
    assert "Softmax" not in {part.op for part in watched_tensors.absent["unused"]}


def test_every_traced_op_is_executed_changed_or_absent(unwatched):
    step = unwatched
    absent = [part.name for parts in step.absent.values() for part in parts]
    changed = {part.name for change in step.changes for part in change.parts}
    assert len(absent) == len(set(absent))
    assert not changed.intersection(absent)


def test_the_lane_is_left_as_it_was(cnn):
    lane = lane_at(cnn, "sim:tf32")
    before = [value.numpy() for value in lane.state()]
    inspect_step(cnn, lane, worth_watching(cnn))
    for then, now in zip(before, lane.state(), strict=True):
        np.testing.assert_array_equal(then, now.numpy())
    assert lane.simulation.memory == {}


def test_a_simulated_rewriter_is_seen_as_grappler_is(cnn):
    """metal-fused-dense leaves the Relu of `dense` out, and only that; the convolution's stays."""
    step = inspect_step(cnn, lane_at(cnn, "sim:metal-fused-dense"))
    left_out = {(part.op, part.layer) for part in step.absent["left-out"]}
    assert ("Relu", "dense") in left_out and ("Relu", "conv") not in left_out
    assert forward(step, "dense") == [["MatMul", "BiasAdd"]]


def test_a_layer_unit_is_fused_as_in_the_step(cnn):
    lane = lane_at(cnn)
    (unit,) = [unit for unit in units_of(cnn).units if unit.name == "dense"]
    assert forward(inspect(unit.executable, lane), "dense") == [["MatMul", "BiasAdd", "Relu"]]


def linear_then_relu() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, name="linear"),
            layers.Activation("relu", name="activation"),
            layers.Dense(3, name="out"),
        ]
    )


@pytest.fixture(scope="module")
def linear() -> Program:
    keras.utils.set_random_seed(0)
    model = linear_then_relu()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False)
    return trace(model, zoo.batch_for(zoo.mlp))


def test_watching_inside_a_fusion_breaks_it_and_is_named(linear):
    lane, (inside,) = lane_at(linear), linear.layer_outputs["linear"]
    unwatched = inspect_step(linear, lane)
    chain = ["MatMul", "BiasAdd", "Relu"]
    assert [ops_of(c) for c in unwatched.fusions if c.layers == ("linear", "activation")] == [chain]
    found = difference(unwatched, inspect_step(linear, lane, [inside]))
    assert [ops_of(c) for c in found.fusions_lost] == [chain]
    assert [ops_of(c) for c in found.fusions_gained] == [["MatMul", "BiasAdd"]]


def test_the_program_is_left_as_it_was(cnn):
    before = [node.proto.SerializeToString(deterministic=True) for node in cnn.graph]
    inspect_step(cnn, lane_at(cnn))
    assert before == [node.proto.SerializeToString(deterministic=True) for node in cnn.graph]


def test_two_compilations_of_one_step_do_not_differ(linear):
    first, second = (inspect_step(linear, lane_at(linear)) for _ in range(2))
    assert difference(first, second) == RewriteDifference((), ())


def test_ops_in_a_loop_are_found_where_they_were_inlined():
    program = trace(zoo.made(zoo.lstm), zoo.batch_for(zoo.lstm))
    step = inspect_step(program, lane_at(program))
    assert step.num_traced > sum(node.location.index is not None for node in program.graph)
    absent = [part for reason in ("left-out", "folded") for part in step.absent[reason] if part.op == "MatMul"]
    assert absent == []


def test_xla_does_not_say_what_it_fuses(cnn):
    step = inspect_step(cnn, lane_at(cnn, "CPU:0/xla"))
    assert not step.is_known and "XLA" in step.note and step.changes == ()


def test_nothing_is_compiled_eagerly(cnn):
    with pytest.raises(UserError, match=r"nothing is compiled eagerly.*use CPU:0/graph"):
        inspect_step(cnn, lane_at(cnn, "CPU:0/eager"))


# ---- hand-made graphs: what this machine's grappler does not do by itself


def traced(function, *specs: tf.TensorSpec) -> tuple[Executable, tf.compat.v1.GraphDef]:
    """A function as an executable whose ops have sites, and its GraphDef to be rewritten by hand."""
    from dataclasses import replace

    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    graph = graph_of(concrete.graph)
    locations = {
        node.name: replace(node.location, layer="layer", index=None if node.is_silent else index)
        for index, node in enumerate(graph)
    }
    graph = graph.with_locations(locations)
    graph_def = concrete.graph.as_graph_def()
    fetched = (graph.by_name[graph.outputs[0].node].inputs[0],)  # before the Identity of a return
    return Executable(graph, {}, graph_def, graph.inputs, {}, {}, fetched), graph_def


def read(executable: Executable, graph_def: tf.compat.v1.GraphDef, device: str = "CPU:0") -> optimized.OptimizedStep:
    return read_graph(executable, CollectedGraph(executable.graph_def, (graph_def,)), parse_place(device))


IMAGES, KERNEL = tf.TensorSpec((1, 4, 4, 2)), tf.TensorSpec((3, 3, 2, 2))


def convolved(x, w):
    return tf.nn.relu(tf.nn.conv2d(x, w, 1, "SAME", name="conv"), name="relu")


def node_in(graph_def, name: str):
    return next(node for node in graph_def.node if node.name == name)


def test_a_changed_layout_is_said_once_for_the_op_and_once_for_each_transpose():
    executable, graph_def = traced(convolved, IMAGES, KERNEL)
    conv = node_in(graph_def, "conv")
    conv.attr["data_format"].s = b"NCHW"
    graph_def.node.append(
        make_node("conv-0-TransposeNHWCToNCHW-LayoutOptimizer", "Transpose", ["x", "perm"], T=tf.float32)
    )
    conv.input[0] = "conv-0-TransposeNHWCToNCHW-LayoutOptimizer"
    found = [(c.kind, c.op, ops_of(c), c.detail) for c in read(executable, graph_def).changes]
    assert found == [("layout", "Conv2D", ["Conv2D"], "NHWC to NCHW"), ("layout", "Transpose", ["Conv2D"], "")]


def test_an_inserted_cast_and_the_dtype_it_is_for():
    executable, graph_def = traced(convolved, IMAGES, KERNEL)
    cast = make_node("conv-0-CastToBf16-AutoMixedPrecision", "Cast", ["x"], SrcT=tf.float32, DstT=tf.bfloat16)
    graph_def.node.append(cast)
    conv = node_in(graph_def, "conv")
    conv.input[0] = cast.name
    conv.attr["T"].type = tf.bfloat16.as_datatype_enum
    found = [(c.kind, ops_of(c), c.detail) for c in read(executable, graph_def).changes]
    assert found == [("dtype", ["Conv2D"], "float32 to bfloat16"), ("cast", ["Conv2D"], "float32 to bfloat16")]


def test_an_op_on_another_device_is_said_to_be_moved():
    executable, graph_def = traced(convolved, IMAGES, KERNEL)
    for node in graph_def.node:
        node.device = "/job:localhost/replica:0/task:0/device:GPU:0"
    node_in(graph_def, "relu").device = "/job:localhost/replica:0/task:0/device:CPU:0"
    found = [(c.kind, ops_of(c), c.detail) for c in read(executable, graph_def, "GPU:0").changes]
    assert found == [("moved", ["Relu"], "GPU:0 to CPU:0")]


def test_nothing_is_found_where_nothing_changed():
    executable, graph_def = traced(convolved, IMAGES, KERNEL)
    step = read(executable, graph_def)
    assert step.changes == () and not any(step.absent.values())


def test_a_kernel_of_any_name_that_takes_the_place_of_several_ops_is_a_fusion():
    executable, graph_def = traced(convolved, IMAGES, KERNEL)
    relu = node_in(graph_def, "relu")
    relu.op = "VendorConvolution"
    del relu.input[:]
    relu.input.extend(node_in(graph_def, "conv").input)
    graph_def.node.remove(node_in(graph_def, "conv"))
    (change,) = read(executable, graph_def).changes
    assert (change.kind, change.op, ops_of(change)) == ("fused", "VendorConvolution", ["Conv2D", "Relu"])


def test_an_op_that_is_passed_over_belongs_to_no_kernel():
    """As when an activation is dropped: its readers read its input."""
    executable, graph_def = traced(lambda x: tf.tanh(tf.exp(x, name="exp"), name="tanh"), tf.TensorSpec((2,)))
    tanh = node_in(graph_def, "tanh")
    tanh.input[0] = "x"
    graph_def.node.remove(node_in(graph_def, "exp"))
    step = read(executable, graph_def)
    assert step.changes == ()
    assert [part.op for part in step.absent["left-out"]] == ["Exp"]


def test_equal_ops_that_are_computed_once():
    def twice(x):
        return tf.tanh(tf.exp(x, name="one"), name="a") + tf.tanh(tf.exp(x, name="two"), name="b")

    executable, graph_def = traced(twice, tf.TensorSpec((2,)))
    node_in(graph_def, "b").input[0] = "one"
    graph_def.node.remove(node_in(graph_def, "two"))
    (change,) = read(executable, graph_def).changes
    assert (change.kind, [part.name for part in change.parts]) == ("shared", ["one", "two"])
