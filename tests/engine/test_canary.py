"""Canaries: one for each private name of TensorFlow and Keras that an adapter uses.

When one of these fails after an upgrade, the adapter it names has to be looked at; nothing else
of the engine need be.
"""

from __future__ import annotations

import gc
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework.function_pb2 import FunctionDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python import pywrap_tfe
from tensorflow.python.eager import context
from tensorflow.python.eager import execute as eager_execute
from tensorflow.python.framework import config, function_def_to_graph, kernels, op_def_registry
from tensorflow.python.framework.auto_control_deps import LEGACY_RANDOM_OPS
from tensorflow.python.util import _pywrap_util_port

from diag.engine.graphs import tf_runtime as execution

A, B = np.array([[1, 2], [3, 4]], np.float32), np.array([[5, 6], [7, 8]], np.float32)
PRODUCT = [[19, 22], [43, 50]]
CPU = "/job:localhost/replica:0/task:0/device:CPU:0"
FLOAT32, FLOAT64 = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum


# ---- diag/engine/graphs/tf_runtime.py


def test_execute_takes_attributes_as_a_flat_tuple():
    attrs = ("transpose_a", True, "transpose_b", False, "T", FLOAT32)
    inputs = [tf.constant(A), tf.constant(B)]
    (product,) = pywrap_tfe.TFE_Py_Execute(context.context()._handle, CPU, "MatMul", inputs, attrs, 1)
    np.testing.assert_array_equal(product.numpy(), A.T @ B)
    assert product.device == CPU


def test_execute_gives_every_output():
    inputs, attrs = [tf.constant(1), tf.constant(A)], ("num_split", 2, "T", FLOAT32)
    halves = pywrap_tfe.TFE_Py_Execute(context.context()._handle, CPU, "Split", inputs, attrs, 2)
    assert [half.numpy().tolist() for half in halves] == [[[1], [3]], [[2], [4]]]


def test_execute_raises_what_python_can_catch():
    with pytest.raises(Exception, match="Matrix size-incompatible"):
        pywrap_tfe.TFE_Py_Execute(
            context.context()._handle, CPU, "MatMul", [tf.constant(A), tf.constant(B[:1])], ("T", FLOAT32), 1
        )


def test_numpy_of_an_eager_tensor_is_its_buffer():
    tensor = tf.constant(np.arange(1000, dtype=np.float32))
    first, second = tensor._numpy(), tensor._numpy()
    assert first.__array_interface__["data"] == second.__array_interface__["data"]
    assert tensor.numpy().__array_interface__["data"] != first.__array_interface__["data"]


def test_the_buffer_outlives_its_tensor():
    array = (tf.constant(A) + 1)._numpy()
    gc.collect()
    [tf.random.uniform((2, 2)) for _ in range(100)]  # would reuse the memory
    np.testing.assert_array_equal(array, A + 1)


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("change", ["assign", "assign_add"])
def test_a_variable_that_is_assigned_leaves_what_was_read(change, compiled):
    variable = tf.Variable(np.ones(1000, np.float32))
    read = variable.read_value()._numpy()

    def write() -> None:
        getattr(variable, change)(tf.fill([1000], 3.0))

    (tf.function(write) if compiled else write)()
    np.testing.assert_array_equal(read, np.ones(1000))
    assert variable.numpy()[0] in (3.0, 4.0)


def test_op_definitions_tell_the_types_of_attributes():
    definition = op_def_registry.get("MatMul")
    attributes = {attr.name: attr.type for attr in definition.attr}
    assert {"transpose_a": "bool", "transpose_b": "bool", "T": "type"}.items() <= attributes.items()
    assert [argument.name for argument in definition.output_arg] == ["product"]
    assert op_def_registry.get("NoSuchOpAtAll") is None


def test_the_kernels_of_an_op_are_known_with_their_dtypes():
    def dtypes(op: str) -> set[int]:
        found = kernels.get_registered_kernels_for_op(op).kernel
        return {
            dtype
            for kernel in found if kernel.device_type == "CPU"
            for constraint in kernel.constraint if constraint.name == "T"
            for dtype in constraint.allowed_values.list.type
        }  # fmt: skip

    assert {FLOAT32, FLOAT64} <= dtypes("MatMul")
    assert tf.string.as_datatype_enum not in dtypes("MatMul")
    assert not kernels.get_registered_kernels_for_op("NoSuchOpAtAll").kernel


def test_a_function_can_be_made_known_to_the_runtime():
    concrete = tf.function(lambda x: x + 1).get_concrete_function(tf.TensorSpec((), tf.float32))
    definition = concrete.function_def
    definition.signature.name = "lockstep_canary"
    assert not context.context().has_function("lockstep_canary")
    context.context().add_function_def(definition)
    assert context.context().has_function("lockstep_canary")


def loop_of_a_trace() -> Any:
    """The body of a loop that was traced and is gone, but for its definition."""

    @tf.function
    def doubled(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda y: y < 100, lambda y: (2 * y,), [x])[0]

    library = doubled.get_concrete_function(tf.constant(3)).graph.as_graph_def().library.function
    return max(library, key=lambda f: f.ByteSize())


def test_a_function_leaves_the_runtime_with_its_trace_unless_it_is_counted():
    body = loop_of_a_trace()
    gc.collect()
    assert not context.context().has_function(body.signature.name)
    execution.register_function(body)
    kept = loop_of_a_trace_registered()
    gc.collect()
    assert context.context().has_function(body.signature.name) and context.context().has_function(kept)


def loop_of_a_trace_registered() -> str:
    """The same, registered while its trace still lived."""

    @tf.function
    def tripled(x: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda y: y < 100, lambda y: (3 * y,), [x])[0]

    concrete = tripled.get_concrete_function(tf.constant(3))
    body = concrete.graph.as_graph_def().library.function[0]
    execution.register_function(body)
    return str(body.signature.name)


# ---- diag/engine/graphs/runtime_functions.py


def definition_of(name: str, function: Any, *specs: tf.TensorSpec) -> Any:
    """The FunctionDef of a trace under another name, which the runtime does not know."""
    result = FunctionDef()
    result.CopyFrom(tf.function(function, autograph=False).get_concrete_function(*specs).function_def)
    result.signature.name = name
    return result


SCALAR = tf.TensorSpec((), tf.float32)
CALLED = ("executor_type", "", "config_proto", b"")


def test_a_function_is_known_until_it_is_removed():
    current = context.context()
    current.add_function_def(definition_of("canary_removed", lambda x: x + 1, SCALAR))
    assert current.has_function("canary_removed") is True
    current.remove_function("canary_removed")
    assert current.has_function("canary_removed") is False
    with pytest.raises(tf.errors.NotFoundError):
        eager_execute.execute("canary_removed", 1, [tf.constant(1.0)], CALLED, current)


def test_a_function_of_the_runtime_is_executed_by_its_name():
    current = context.context()
    current.add_function_def(definition_of("canary_called", lambda x: (x + 1, x * 2), SCALAR))
    outputs = eager_execute.execute("canary_called", 2, [tf.constant(3.0)], CALLED, current)
    assert [output.numpy() for output in outputs] == [4.0, 6.0]
    current.remove_function("canary_called")


def test_a_function_without_outputs_is_executed():
    variable, current = tf.Variable(1.0), context.context()

    def effect(x: tf.Tensor) -> None:
        variable.assign_add(x)

    current.add_function_def(definition_of("canary_effect", effect, SCALAR))
    assert not eager_execute.execute("canary_effect", 0, [tf.constant(2.0), variable.handle], CALLED, current)
    assert variable.numpy() == 3.0
    current.remove_function("canary_effect")


def test_the_options_of_a_call_follow_the_optimizer_s_options():
    """They are what `eager.execute` takes, by these two names, the second a ConfigProto."""
    before = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"remapping": False})
    try:
        options = context.context().function_call_options.as_attrs()
    finally:
        tf.config.optimizer.set_experimental_options({"remapping": before.get("remapping", True)})
    assert set(options) == {"executor_type", "config_proto"}
    rewriting = ConfigProto.FromString(options["config_proto"]).graph_options.rewrite_options
    assert rewriting.remapping == rewriting.OFF


def test_a_function_is_compiled_by_xla_where_an_attribute_says_so():
    """A function whose op XLA does not have runs without the attribute, and is refused with it."""
    current, text = context.context(), tf.constant("text")
    for name, is_xla in (("canary_plain", False), ("canary_xla", True)):
        definition = definition_of(name, tf.strings.length, tf.TensorSpec((), tf.string))
        definition.attr["_XlaMustCompile"].b = is_xla
        current.add_function_def(definition)
    assert eager_execute.execute("canary_plain", 1, [text], CALLED, current)[0].numpy() == 4
    with pytest.raises(tf.errors.OpError, match="unsupported operations when trying to compile"):
        eager_execute.execute("canary_xla", 1, [text], CALLED, current)
    for name in ("canary_plain", "canary_xla"):
        current.remove_function(name)


def test_ops_that_draw_from_a_kernel_s_own_stream_are_named():
    """They are stateful, and yet a trace makes no effect of one that nothing reads."""
    assert {"RandomUniform", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle"} <= set(LEGACY_RANDOM_OPS)
    assert not {"StatelessRandomUniformV2", "StatefulUniform", "AssignVariableOp"} & set(LEGACY_RANDOM_OPS)
    assert op_def_registry.get("RandomUniform").is_stateful

    def unread(x: tf.Tensor) -> tf.Tensor:
        tf.raw_ops.RandomUniform(shape=[2], dtype=tf.float32)
        tf.raw_ops.Assert(condition=x > 0, data=[x])
        return x + 1

    definition = definition_of("canary_unread", unread, SCALAR)
    op_of = {node.name: node.op for node in definition.node_def}
    assert [op_of[effect] for effect in definition.control_ret.values()] == ["Assert"]


# ---- diag/engine/rewrites/graph_collection.py


def test_graphs_are_collected_as_traced_and_as_executed():
    """Two equal ops are merged into one before they are executed; both were traced."""

    @tf.function(autograph=False)
    def f(x):
        return tf.exp(x, name="first") + tf.exp(x, name="second")

    current = context.context()
    current.enable_graph_collection()
    try:
        f(tf.constant(A))
        f(tf.constant(A))
        graphs = current.export_run_metadata().function_graphs
    finally:
        current.disable_graph_collection()
    (graph,) = [g for g in graphs if any(node.name == "first" for node in g.pre_optimization_graph.node)]
    before = [node.op for node in graph.pre_optimization_graph.node]
    after = [node.op for part in graph.partition_graphs for node in part.node]
    assert before.count("Exp") == 2 and after.count("Exp") == 1
    assert all(node.device == CPU for part in graph.partition_graphs for node in part.node if node.op == "Exp")


# ---- diag/machine/environment.py


def test_op_determinism_is_known():
    assert config.is_op_determinism_enabled() is False


def test_onednn_is_known():
    assert isinstance(_pywrap_util_port.IsMklEnabled(), bool)


# ---- diag/engine/step/keras_calls.py


class Inner(keras.layers.Layer):
    def call(self, x):
        return x * 2


class Outer(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner, self.dense = Inner(), keras.layers.Dense(2)

    def call(self, x):
        return self.dense(self.inner(self.inner(x)))


def test_every_call_of_every_layer_goes_through_layer_call(monkeypatch):
    called = []
    original = keras.layers.Layer.__call__

    def call(self, *args, **kwargs):
        called.append(type(self).__name__)
        return original(self, *args, **kwargs)

    model, sequential = Outer(), keras.Sequential([keras.layers.Dense(2), keras.layers.ReLU()])
    for each in (model, sequential):
        each(A)
    monkeypatch.setattr(keras.layers.Layer, "__call__", call)
    tf.function(model, autograph=False).get_concrete_function(tf.TensorSpec((3, 2)))
    assert called == ["Outer", "Inner", "Inner", "Dense"]
    called.clear()
    tf.function(sequential, autograph=False).get_concrete_function(tf.TensorSpec((3, 2)))
    assert [name for name in called if name in ("Dense", "ReLU")] == ["Dense", "ReLU"]


def test_layers_know_the_layers_they_hold():
    model = Outer()
    assert model.inner in list(model._flatten_layers(include_self=False))
    assert list(model.inner._flatten_layers(include_self=False)) == []


@pytest.mark.parametrize("scaled", [False, True])
def test_update_step_is_called_once_for_each_variable(scaled):
    variables = [keras.Variable(A), keras.Variable(B)]
    inner = keras.optimizers.Adam()
    optimizer = keras.optimizers.LossScaleOptimizer(inner) if scaled else inner
    optimizer.build(variables)
    updated, original = [], inner.update_step

    def update_step(gradient, variable, learning_rate):
        updated.append(variable)
        return original(gradient, variable, learning_rate)

    inner.update_step = update_step

    def step():
        optimizer.apply_gradients([(tf.ones((2, 2)), variable) for variable in variables])

    tf.function(step, autograph=False).get_concrete_function()
    known = [(variable, variable.value) for variable in variables]
    assert len(updated) == 2
    assert all(any(seen is each for each in pair) for seen, pair in zip(updated, known, strict=True))
    del inner.update_step
    assert inner.update_step == original


def test_an_instances_update_step_is_not_its_class_s():
    """So that deleting the replacement brings the original back."""
    assert "update_step" not in vars(keras.optimizers.Adam())


@pytest.mark.parametrize("layer", [keras.layers.LSTM, keras.layers.GRU])
def test_recurrent_layers_choose_cudnn_by_an_attribute(layer):
    assert layer(2).use_cudnn == "auto"


def test_a_loops_body_becomes_a_graph():
    def loop(x):
        return tf.while_loop(lambda i, y: i < 3, lambda i, y: (i + 1, tf.tanh(y)), (0, x))[1]

    outer = tf.function(loop, autograph=False).get_concrete_function(tf.TensorSpec((2,), tf.float32)).graph
    bodies = [function for function in outer.as_graph_def().library.function if "body" in function.signature.name]
    with outer.as_default():
        graph = function_def_to_graph.function_def_to_graph(bodies[0])
    assert "Tanh" in [operation.type for operation in graph.get_operations()]
    assert len(graph.inputs) == len(bodies[0].signature.input_arg)
    assert len(graph.outputs) == len(bodies[0].signature.output_arg)


def test_gradient_ops_carry_the_scope_of_their_forward_op():
    def step(x, w):
        with tf.GradientTape() as tape:
            tape.watch(w)
            with tf.name_scope("lockstep.layer7"):
                y = tf.matmul(x, w)
            loss = tf.reduce_sum(y)
        return tape.gradient(loss, w)

    spec = tf.TensorSpec((2, 2), tf.float32)
    graph = tf.function(step, autograph=False).get_concrete_function(spec, spec).graph
    names = [operation.name for operation in graph.get_operations() if operation.type == "MatMul"]
    forward, *backward = names
    assert forward.startswith("lockstep.layer7/")
    assert backward and all(name.startswith("gradient_tape/lockstep.layer7/") for name in backward)


def test_control_flow_is_functional():
    """While loops and branches are single nodes with functions: graphs have no cycles."""

    def both(x):
        y = tf.cond(x > 0, lambda: x * 2, lambda: x)
        return tf.while_loop(lambda y: y < 8, lambda y: (y * 2,), (y,))

    graph = tf.function(both, autograph=False).get_concrete_function(tf.TensorSpec((), tf.float32)).graph
    types = {operation.type for operation in graph.get_operations()}
    assert types & {"If", "StatelessIf"} and types & {"While", "StatelessWhile"}
    assert not types & {"Switch", "Merge", "Enter", "NextIteration"}


def test_optimizers_are_applied_by_apply_and_a_scaled_one_applies_its_inner(monkeypatch):
    applied = []
    for kind in (keras.optimizers.Optimizer, keras.optimizers.LossScaleOptimizer):
        assert "apply" in vars(kind) or kind is keras.optimizers.Optimizer
        original = kind.apply
        monkeypatch.setattr(
            kind, "apply", lambda self, *a, original=original, **k: (applied.append(self), original(self, *a, **k))
        )
    inner = keras.optimizers.SGD()
    optimizer, weight = keras.optimizers.LossScaleOptimizer(inner), keras.Variable(tf.ones(2))
    optimizer.build([weight])
    optimizer.apply_gradients([(tf.ones(2), weight)])
    assert applied == [optimizer, inner]


# ---- diag/engine/training/fit_calls.py


def small_model() -> keras.Model:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("method", ["fit", "train_on_batch"])
def test_keras_trains_by_the_train_function_that_make_train_function_sets(method):
    model, taken = small_model(), []

    def make(force: bool = False) -> None:
        model.train_function = lambda iterator: taken.append(next(iterator)) or {}

    model.make_train_function = make
    model.get_metrics_result = dict
    if method == "fit":
        model.fit(A, B[:, :1], batch_size=1, verbose=0, class_weight={5: 2.0, 7: 3.0})
        assert len(taken) == 2 and taken[0][0].shape == (1, 2) and {w.numpy().item() for _, _, w in taken} == {2.0, 3.0}
    else:
        model.train_on_batch(A, B[:, :1])
        assert len(taken) == 1 and taken[0][2] is None
    assert model.optimizer.iterations == 0


def test_keras_predicts_by_the_predict_function_that_make_predict_function_sets():
    model, taken = small_model(), []

    def make(force: bool = False) -> None:
        model.predict_function = lambda data: taken.extend(data) or {}

    model.make_predict_function = make
    model.predict(A, batch_size=1, verbose=0)
    assert [batch.shape for batch in taken] == [(1, 2)] * len(A)


def test_what_is_none_in_a_generator_s_batch_comes_as_an_optional():
    model, taken = small_model(), []

    def make(force: bool = False) -> None:
        model.train_function = lambda iterator: taken.append(next(iterator)) or {}

    model.make_train_function = make
    model.get_metrics_result = dict
    model.fit(((A, B[:, :1], None) for _ in range(2)), steps_per_epoch=2, verbose=0, shuffle=False)
    assert isinstance(taken[0][2], tf.experimental.Optional)


# ---- diag/machine/random_states.py


def test_eager_ops_take_their_seeds_from_the_context_s_generator():
    tf.random.set_seed(3)
    kept = context.context()._rng.getstate()
    orders = []
    for _ in range(2):
        orders.append(list(tf.data.Dataset.range(100).shuffle(100).as_numpy_iterator()))
    assert orders[0] != orders[1]
    context.context()._rng.setstate(kept)
    assert list(tf.data.Dataset.range(100).shuffle(100).as_numpy_iterator()) == orders[0]
