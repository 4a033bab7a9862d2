"""The traced step against Keras's own training step, and where each of its ops is said to stand."""

from __future__ import annotations

from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import ASSIGN_OPS
from diag.engine.graphs.locations import BACKWARD, FORWARD, LOSS_LAYER, OPTIMIZER, OPTIMIZER_LAYER, PHASES
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.errors import UserError
from diag.machine.places import parse_place
from tests import zoo

MODELS = [
    zoo.mlp, zoo.cnn, zoo.lstm, zoo.xception_block, zoo.transformer, zoo.shared, zoo.two_ways, zoo.branching,
]  # fmt: skip
STEPS = 2


def bits(array: np.ndarray) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def stepped(program: Program, place: str, batches: list) -> tuple[list[float], list[np.ndarray]]:
    """The losses, and every variable after the last step."""
    lane = Lane.at("reference", parse_place(place), program, 0)
    steps = CompiledSteps(lane, program)
    losses = [float(steps.run([tf.constant(x) for x in flat_batch(batch)], ())[program.loss]) for batch in batches]
    return losses, [variable.numpy() for variable in lane.variables]


def trained_by_keras(model: keras.Model, program: Program, batches: list) -> tuple[list[float], list[np.ndarray]]:
    losses = []
    for batch in batches:
        result = model.train_on_batch(batch.inputs, batch.targets, return_dict=True)
        model.reset_metrics()
        losses.append(float(result["loss"]))
    return losses, [np.asarray(variable.value) for variable in program.keras_variables]


def assert_same_bits(program: Program, found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    """All state but a loss's running means, which Keras resets when its metrics are reset."""
    pairs = zip(program.variables, found, expected, strict=True)
    assert [s.name for s, a, b in pairs if bits(a) != bits(b) and not s.name.startswith("metrics/")] == []


# ---- the step is Keras's


CASES = [
    *(pytest.param(make, "float32", id=make.__name__) for make in (*MODELS, zoo.two_blocks)),
    *((make, "mixed_float16") for make in (zoo.mlp, zoo.cnn, zoo.lstm)),
    (zoo.mlp, "mixed_bfloat16"),
]


@pytest.mark.parametrize(("make", "policy"), CASES)
def test_the_step_is_the_one_that_fit_runs(make, policy):
    model = zoo.made(make, policy)
    batches = [zoo.batch_for(make, seed=step) for step in range(STEPS)]
    program = trace(model, batches[0])
    before = [np.asarray(variable.value) for variable in program.keras_variables]
    losses, state = stepped(program, "CPU:0", batches)
    assert_same_bits(program, [np.asarray(v.value) for v in program.keras_variables], before)  # tracing changed none
    expected_losses, expected = trained_by_keras(model, program, batches)
    assert_same_bits(program, state, expected)
    assert losses == expected_losses
    moved = {spec.kind for spec, a, b in zip(program.variables, before, state, strict=True) if bits(a) != bits(b)}
    if (make, policy) == (zoo.cnn, "mixed_float16"):  # its gradients overflow at the first scales, which are halved
        assert moved == {"optimizer", "state"}
    else:
        assert {"weight", "momentum", "velocity", "optimizer"} <= moved


@pytest.mark.parametrize("make", [zoo.xception_block, zoo.transformer], ids=lambda make: make.__name__)
def test_walking_op_by_op_is_keras_s_eager_step(make):
    model, batch = zoo.made(make), zoo.batch_for(make)
    program = trace(model, batch)
    losses, state = stepped(program, "CPU:0/eager", [batch])
    model.run_eagerly = True
    expected_losses, expected = trained_by_keras(model, program, [batch])
    assert losses == expected_losses
    assert_same_bits(program, state, expected)


@pytest.fixture
def no_grappler():
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})


@pytest.mark.parametrize("make", [zoo.mlp, zoo.lstm, zoo.branching], ids=lambda make: make.__name__)
def test_walking_op_by_op_is_the_same_step(make, no_grappler):
    """What grappler fuses changes the last bit on some processors; without it there is none to change."""
    batches = [zoo.batch_for(make, seed=step) for step in range(STEPS)]
    program = trace(zoo.made(make), batches[0])
    graph, eager = (stepped(program, place, batches) for place in ("CPU:0", "CPU:0/eager"))
    assert eager[0] == graph[0]
    assert_same_bits(program, eager[1], graph[1])


def test_both_branches_of_a_model_are_walked():
    batch = zoo.batch_for(zoo.branching)
    program = trace(zoo.made(zoo.branching), batch)
    up, down = (type(batch)(sign * np.abs(batch.inputs), batch.targets) for sign in (1, -1))
    losses = {place: stepped(program, place, [up, down])[0] for place in ("CPU:0", "CPU:0/eager")}
    assert losses["CPU:0"] == losses["CPU:0/eager"]
    assert losses["CPU:0"][0] != losses["CPU:0"][1]


def test_moving_averages_move_as_written_down():
    batch = zoo.batch_for(zoo.xception_block)
    model = zoo.made(zoo.xception_block)
    shortcut = model.get_layer("shortcut")(batch.inputs).numpy().astype(np.float64)  # (batch, height, width, channels)
    program = trace(model, batch)
    _, state = stepped(program, "CPU:0", [batch])
    after = {spec.name: value for spec, value in zip(program.variables, state, strict=True)}
    momentum = 0.99  # Keras's default; the averages start at 0 and 1
    mean, variance = shortcut.mean((0, 1, 2)), shortcut.var((0, 1, 2))
    np.testing.assert_allclose(after["shortcut_norm/moving_mean"], (1 - momentum) * mean, rtol=1e-4)
    np.testing.assert_allclose(after["shortcut_norm/moving_variance"], momentum + (1 - momentum) * variance, rtol=1e-5)


def test_rows_of_an_embedding_that_no_token_names_stay():
    batch = zoo.batch_for(zoo.lstm)
    program = trace(zoo.made(zoo.lstm), batch)
    index = next(i for i, spec in enumerate(program.variables) if spec.name == "embedding/embeddings")
    before = np.asarray(program.keras_variables[index].value)
    after = stepped(program, "CPU:0", [batch])[1][index]
    changed = np.flatnonzero((before != after).any(axis=1))
    np.testing.assert_array_equal(changed, np.unique(batch.inputs))


# ---- sites


@pytest.fixture(scope="module", params=MODELS, ids=lambda make: make.__name__)
def program(request) -> Program:
    return trace(zoo.made(request.param), zoo.batch_for(request.param))


@pytest.fixture(scope="module")
def cnn() -> Program:
    return trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn))


def test_every_op_has_an_index_a_phase_and_a_layer(program):
    assert [node.location.index for node in program.ops] == list(range(len(program.ops)))
    layers = {*program.layers, LOSS_LAYER, OPTIMIZER_LAYER}
    assert [node.name for node in program.ops if node.location.layer not in layers] == []
    assert {node.location.phase for node in program.ops} == set(PHASES)
    indexed = {node.name for node in program.ops}
    work = [node for node in program.graph if node.op in ("MatMul", "Conv2D", "Tanh", "Relu", *ASSIGN_OPS)]
    assert work and all(node.name in indexed for node in work)


def test_phases_follow_each_other(program):
    """A forward op never reads what a backward op made, nor a backward op what the optimizer made."""
    order = {phase: rank for rank, phase in enumerate(PHASES)}
    for node in program.graph:
        if node.location.index is not None:
            sources = [program.graph.by_name[port.node].location for port in node.inputs]
            late = [
                location
                for location in sources
                if location.index is not None and order[location.phase] > order[node.location.phase]
            ]
            assert late == [], node.name


def test_gradients_and_slots_belong_to_their_weights(program):
    weights = {spec.name: spec for spec in program.variables if spec.kind == "weight"}
    assert set(program.gradients) == set(weights)
    for name, port in program.gradients.items():
        location = program.graph.by_name[port.node].location
        assert (location.phase, location.layer) == (BACKWARD, weights[name].layer), name
    for kind in ("momentum", "velocity"):
        slots = [spec for spec in program.variables if spec.kind == kind]
        assert {slot.of for slot in slots} == set(weights)
        assert all(slot.shape == weights[slot.of].shape for slot in slots if slot.of)


def test_every_weight_is_updated_under_its_own_name(program):
    weights = [spec.name for spec in program.variables if spec.kind == "weight"]
    updates = Counter(
        node.location.variable for node in program.ops if node.op in ASSIGN_OPS and node.location.variable
    )
    assert updates == {name: 3 for name in weights}  # momentum, velocity and the weight itself
    layer_of = {spec.name: spec.layer for spec in program.variables}
    for node in program.ops:
        if node.location.variable:
            assert (node.location.phase, node.location.layer) == (OPTIMIZER, layer_of[node.location.variable])


def test_names_of_variables_are_unique(program):
    names = [spec.name for spec in program.variables]
    assert len(set(names)) == len(names)


def test_the_backward_pass_of_the_cnn_stands_in_its_layers(cnn):
    found = {(node.op, node.location.layer) for node in cnn.ops if node.location.phase == BACKWARD}
    assert {
        ("Conv2DBackpropFilter", "conv"), ("BiasAddGrad", "conv"), ("ReluGrad", "conv"), ("MaxPoolGrad", "pool"),
        ("ReluGrad", "dense"), ("MatMul", "dense"), ("BiasAddGrad", "dense"), ("MatMul", "classes"),
        ("BiasAddGrad", "classes"),
    } <= found  # fmt: skip
    assert not {("Conv2DBackpropFilter", "pool"), ("MaxPoolGrad", "conv")} & found


def test_the_forward_pass_of_the_cnn_is_in_order(cnn):
    chain = [(node.op, node.location.layer) for node in cnn.ops if node.op in ("Conv2D", "MaxPool", "MatMul", "Relu")]
    forward = [
        ("Conv2D", "conv"), ("Relu", "conv"), ("MaxPool", "pool"), ("MatMul", "dense"), ("Relu", "dense"),
        ("MatMul", "classes"),
    ]  # fmt: skip
    assert chain[: len(forward)] == forward


def test_a_shared_layer_has_two_outputs_under_one_name():
    program = trace(zoo.made(zoo.shared), zoo.batch_for(zoo.shared))
    assert len(program.layer_outputs["twice"]) == 2
    forward = [n.op for n in program.ops if n.location.layer == "twice" and n.location.phase == FORWARD]
    assert forward.count("Tanh") == forward.count("MatMul") == 2


def test_a_layer_that_holds_layers_is_looked_into():
    program = trace(zoo.made(zoo.transformer), zoo.batch_for(zoo.transformer))
    forward = [(node.op, node.location.layer) for node in program.ops if node.location.phase == FORWARD]
    assert {op for op, layer in forward if layer == "block"} == {"AddV2"}  # its own two sums, and no more
    assert {"multi_head_attention", "layer_normalization", "dense", "dense_1", "dropout"} <= set(program.layers)
    assert {layer for op, layer in forward if op in ("Erf", "Erfc")} == {"dense"}


def test_a_loop_stays_in_its_layer():
    program = trace(zoo.made(zoo.lstm), zoo.batch_for(zoo.lstm))
    outside = {node.name for node in program.graph}
    loop = [node for node in program.ops if node.name not in outside]
    assert {node.location.layer for node in loop} == {"lstm"}
    assert {node.location.phase for node in loop if node.op == "MatMul"} == {FORWARD, BACKWARD}


def test_a_smaller_batch_is_another_program_of_the_same_variables():
    model = zoo.made(zoo.cnn)
    whole, rest = (trace(model, zoo.batch_for(zoo.cnn, size)) for size in (4, 3))
    assert whole.variables == rest.variables
    assert [node.op for node in whole.ops] == [node.op for node in rest.ops]


# ---- names


def named(name: str) -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name=name)])
    model.compile("adam", "mse")
    return model


NAMED_BATCH = Batch(np.ones((4, 3), np.float32), np.ones((4, 2), np.float32))


@pytest.mark.parametrize("name", [" ", "a:1", "日本語", "a\nb", "'"])
def test_a_name_that_no_graph_takes_is_the_models_own_fault(name: str) -> None:
    with pytest.raises(UserError, match=r"is not a valid .*scope name in TensorFlow; .*another name"):
        trace(named(name), NAMED_BATCH)
    keras.utils.clear_session()  # Keras leaves the scopes of layers around one that cannot be entered (3.15)


@pytest.mark.parametrize("name", ["n" * 300, ".", "..", "loss", "step"])
def test_an_odd_name_is_traced(name: str) -> None:
    assert name in trace(named(name), NAMED_BATCH).layers
