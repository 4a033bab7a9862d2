"""Which tensors may be watched: the rule against TensorFlow's optimized graph, and against a rewriter written here."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Port, graph_of
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.rewrites.graph_collection import collected_graphs
from diag.engine.rewrites.optimized import difference, inspect_step
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.watching import Readers, fusion_safe, unsafe_to_watch, worth_watching
from diag.machine.places import parse_place
from tests import zoo

MODELS = [zoo.mlp, zoo.cnn, zoo.xception_block]


def lane_at(program: Program, place: str) -> Lane:
    return Lane.at("candidate", parse_place(place), program, 0)


@pytest.mark.parametrize("make", MODELS, ids=lambda make: make.__name__)
def test_tapping_all_that_is_safe_leaves_every_fusion(make):
    program = trace(zoo.made(make), zoo.batch_for(make))
    lane, safe = lane_at(program, "CPU:0"), fusion_safe(program, Readers(program.graph, program.results))
    found = difference(inspect_step(program, lane), inspect_step(program, lane, tuple(safe)))
    assert found.fusions_lost == () and found.fusions_gained == ()
    assert set(program.gradients.values()) <= set(safe)  # Adam reads each twice
    assert program.loss in safe


def test_what_the_rule_forbids_does_break_a_fusion():
    """The sum of the shortcut, which grappler adds up another way unless it is watched (TensorFlow 2.21)."""
    program = trace(zoo.made(zoo.xception_block), zoo.batch_for(zoo.xception_block))
    lane, forbidden = lane_at(program, "CPU:0"), program.layer_outputs["shortcut_norm"]
    assert "only AddV2 reads it" in unsafe_to_watch(program, forbidden)[forbidden[0]]
    assert difference(inspect_step(program, lane), inspect_step(program, lane, forbidden)).fusions_lost


REWRITER = '''
from collections import Counter

def drop(graph_def):
    """A Relu whose BiasAdd nothing else reads is left out, as by a fused kernel without it."""
    readers = Counter(t.split(":")[0] for n in graph_def.node for t in n.input if not t.startswith("^"))
    nodes = {n.name: n for n in graph_def.node}
    for node in graph_def.node:
        if node.op == "Relu":
            source = node.input[0].split(":")[0]
            if nodes[source].op == "BiasAdd" and readers[source] == 1:
                node.op = "Identity"
    return graph_def
'''


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


@pytest.fixture
def program() -> Program:
    keras.utils.set_random_seed(0)
    model = linear_then_relu()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    return trace(model, zoo.batch_for(zoo.mlp))


def test_a_faulty_rewriter_is_not_disturbed_by_safe_taps_and_is_by_an_unsafe_one(program, tmp_path):
    (tmp_path / "rewriter.py").write_text(REWRITER)
    place, batch = f"rewrite:{tmp_path}/rewriter.py:drop", flat_batch(zoo.batch_for(zoo.mlp))
    (inside,), (after,) = program.layer_outputs["linear"], program.layer_outputs["activation"]

    def activation(*watched: Port) -> np.ndarray:
        return CompiledSteps(lane_at(program, place), program).run(batch, (after, *watched))[after].numpy()

    safe = fusion_safe(program, Readers(program.graph, program.results))
    assert after in safe and inside not in safe
    assert activation(*safe).min() < 0  # the fault is there: no relu
    assert activation(inside).min() == 0  # and watched, it vanishes


def test_the_reason_is_given_either_way(program):
    (inside,), (after,) = program.layer_outputs["linear"], program.layer_outputs["activation"]
    assert (
        fusion_safe(program, Readers(program.graph, program.results))[after]
        == "3 ops read it already (MatMul, MatMul, ReluGrad)"
    )
    reasons = unsafe_to_watch(program, worth_watching(program))
    assert reasons[inside] == "only Relu reads it"
    assert {port: "only Mul" in reasons[port] for port in program.gradients.values()} == dict.fromkeys(
        program.gradients.values(), True
    )  # plain SGD: learning rate times gradient, and nothing else


def shape_only(x):
    y = tf.exp(x)
    return tf.tanh(y) + tf.cast(tf.size(y), tf.float32)


def equal_readers(x):
    y = tf.exp(x)
    return tf.tanh(y) + tf.tanh(y)


def dead_reader(x):
    y = tf.exp(x)
    tf.sin(y)
    return tf.tanh(y)


def through_an_identity(x):
    y = tf.exp(x)
    z = tf.identity(y)
    return tf.tanh(z) + tf.sin(z)


@pytest.mark.parametrize(
    "function, is_safe",
    [(shape_only, False), (equal_readers, False), (dead_reader, False), (through_an_identity, True)],
)
def test_readers_are_counted_as_grappler_meets_them(function, is_safe):
    """The optimized graph is the oracle: there Exp has several readers, or one, or is fused with its one."""
    compiled = tf.function(function, autograph=False)
    concrete = compiled.get_concrete_function(tf.TensorSpec((3,)))
    graph = graph_of(concrete.graph)
    exp = Port("Exp", 0)
    assert bool(Readers(graph, graph.outputs[:1]).why_safe(exp)) is is_safe
    with collected_graphs() as found:
        compiled(tf.ones(3))
    (collected,) = [each for each in found if any(node.name == "Exp" for node in each.before.node)]
    nodes = [node for part in collected.parts for node in part.node]
    num_readers = sum("Exp" in node.input for node in nodes)  # 0: fused with its one reader
    assert (num_readers > 1) is is_safe
