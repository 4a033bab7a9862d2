"""Some layers in another dtype: the oracle is Keras, given that dtype policy for those layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.attribution.dtypes import dtypes_to_try, in_another_dtype, parse
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.machine.places import parse_place
from tests import zoo

layers = keras.layers


def model(policy: str | None) -> keras.Model:
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    made = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, name="first", dtype=policy),
            layers.Activation("relu", name="relu", dtype=policy),
            layers.Dense(3, name="last"),
        ]
    )
    made.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
    return made


@pytest.fixture(scope="module")
def programs() -> tuple[Program, Program]:
    """The step in float32, and as Keras traces it with two layers in bfloat16."""
    batch = zoo.batch_for(zoo.mlp)
    return trace(model(None), batch), trace(model("mixed_bfloat16"), batch)


def stepped(program: Program) -> list[np.ndarray]:
    """The loss, the gradients, and the variables after one step."""
    lane = Lane.at("reference", parse_place("CPU:0"), program, 0)
    batch = [tf.constant(x) for x in flat_batch(zoo.batch_for(zoo.mlp))]
    values = CompiledSteps(lane, program).run(batch, tuple(program.gradients.values()))
    named = [values[port] for port in (program.loss, *program.gradients.values())]
    return [x.numpy() for x in (*named, *lane.state())]


def test_it_is_the_step_that_keras_traces_with_such_layers(programs):
    plain, keras_own = programs
    changed = in_another_dtype(plain, ["first", "relu"], "bfloat16")
    mine, theirs, before = stepped(changed), stepped(keras_own), stepped(plain)
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(not np.array_equal(a, b) for a, b in zip(mine, before, strict=True))


def test_casts_stand_at_the_ends_and_not_between(programs):
    changed = in_another_dtype(programs[0], ["first", "relu"], "bfloat16")
    by_name = changed.graph.by_name
    (relu,) = [n for n in changed.graph if n.op == "Relu"]
    bias = by_name[relu.inputs[0].node]
    assert (bias.op, by_name[bias.inputs[0].node].op) == ("BiasAdd", "MatMul")
    assert {relu.dtypes, bias.dtypes} == {(tf.bfloat16,)}
    assert all(changed.graph.dtype(port) == tf.float32 for port in changed.gradients.values())
    assert [n.name for n in programs[0].graph if n.op == "Cast"] == [
        n.name for n in programs[0].graph if n.op == "Cast"
    ]


def test_what_a_layer_computes_in_already_is_not_tried(programs):
    plain, keras_own = programs
    assert dtypes_to_try(plain, ["first", "relu"]) == ["bfloat16"]
    assert dtypes_to_try(keras_own, ["first", "relu"])[-1:] == ["float32"]
    assert dtypes_to_try(plain, []) == []
    assert parse("dtype:first,relu=bfloat16") == (["first", "relu"], "bfloat16")
