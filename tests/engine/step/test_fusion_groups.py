"""Which layers are compiled together, against graphs whose readers can be counted by hand."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.compiled import build
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.localization.bisection import op_by_op
from diag.engine.step.fusion_groups import all_fusion_groups, forward_fusion_groups
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.machine.places import parse_place
from tests import zoo

layers = keras.layers


def chain() -> keras.Model:
    """Each Dense hands its result to one Activation; each Activation's is read by the next product and its gradient."""
    return keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, name="first"),
            layers.Activation("relu", name="relu"),
            layers.Dense(6, name="second"),
            layers.ReLU(name="relu_2"),
            layers.Dense(3, activation="softmax", name="classes"),
        ]
    )


@pytest.fixture(scope="module")
def program() -> Program:
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = chain()
    model.compile("adam", "sparse_categorical_crossentropy", jit_compile=False)
    return trace(model, zoo.batch_for(zoo.mlp))


def test_layers_with_an_unwatched_tensor_between_them_are_compiled_together(program):
    assert [unit.joined for unit in forward_fusion_groups(program)] == [("first", "relu"), ("second", "relu_2")]
    assert all(unit.variable is None and unit.name == "+".join(unit.joined) for unit in forward_fusion_groups(program))


def test_what_passes_inside_a_seam_is_not_fetched(program):
    fusion_group = forward_fusion_groups(program)[0]
    (inside,), (after,) = program.layer_outputs["first"], program.layer_outputs["relu"]
    assert inside not in fusion_group.outputs and after in fusion_group.outputs
    assert {program.gradients["first/kernel"], program.gradients["first/bias"]} <= set(fusion_group.outputs)


def test_seams_of_the_backward_pass_join_neighbours(program):
    """The gradient that goes into a relu's own has one reader: the product of the layer behind is joined to it."""
    pairs = {frozenset(unit.joined) for unit in all_fusion_groups(program)}
    assert {frozenset(("relu", "second")), frozenset(("relu_2", "classes"))} <= pairs
    assert frozenset(("first", "classes")) not in pairs


def test_a_seam_computes_what_its_ops_do(program):
    lane = Lane.at("candidate", parse_place("CPU:0"), program, 0)
    fusion_group = forward_fusion_groups(program)[0]
    state, batch = lane.state(), flat_batch(zoo.batch_for(zoo.mlp))
    values = CompiledSteps(lane, program).run(batch, fusion_group.boundary)
    lane.load(state)
    boundary = [values[port] for port in fusion_group.boundary]
    one_by_one, _ = op_by_op(fusion_group, boundary, state, lane)
    together = build(fusion_group.executable, lane.place, None, lane.variables)(*boundary)
    for port, value in zip(fusion_group.outputs, together, strict=True):
        np.testing.assert_allclose(to_numpy(value), to_numpy(one_by_one[port]), rtol=1e-5, atol=1e-6)


def test_where_every_layer_keeps_its_activation_only_the_loss_is_joined():
    keras.utils.clear_session()
    program = trace(zoo.made(zoo.perceptron), zoo.batch_for(zoo.perceptron))
    assert [unit.joined for unit in forward_fusion_groups(program)] == [("logits", "loss")]
