"""The list of ops that a stored graph may have: held against TensorFlow's registry, and every way around it refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.framework import op_def_pb2, types_pb2
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.framework import op_def_registry

from diag.engine.graphs.allowed_ops import CALLS, MARKS, NO_NUMBERS, UNKNOWN, Beyond, allowed_ops, beyond, in_words
from diag.engine.graphs.editing import make_node
from diag.engine.step.tracing import trace
from tests import zoo

# Where a state is the variable that the op is handed, a stream of random numbers, a workspace, an order of calls.
STATEFUL_CLASSES = ("random", "variables", CALLS)
STATEFUL_OPS = (
    "CheckNumerics", "CheckNumericsV2", "CudnnRNN", "CudnnRNNBackprop", "CudnnRNNBackpropV2", "CudnnRNNBackpropV3",
    "CudnnRNNV2", "CudnnRNNV3", "SampleDistortedBoundingBox", "SampleDistortedBoundingBoxV2",
)  # fmt: skip
# Text attributes, all of them words that choose a formula or stand in a message.
WORDS = {
    "align", "bad_indices_policy", "data_format", "direction", "dst_format", "equation", "fill_mode", "input_mode",
    "interpolation", "kernel_type", "message", "method", "mode", "noise", "padding", "rnn_mode", "round_mode",
    "src_format",
}  # fmt: skip
OF_CALLS = {"config", "config_proto", "executor_type"}  # which `beyond` looks into


def registry() -> dict[str, Any]:
    """Op -> OpDef, of all that TensorFlow has loaded."""
    listed = pywrap_tf_session.TF_GetAllOpList()
    ops = op_def_pb2.OpList.FromString(pywrap_tf_session.TF_GetBuffer(listed)).op
    return {op.name: op for op in ops}


def definitions() -> Iterator[tuple[str, str, Any]]:
    """(class, op, OpDef) of the list; an op of another TensorFlow has no OpDef here."""
    for op, kind in allowed_ops().classes.items():
        if (definition := op_def_registry.get(op)) is not None:
            yield kind, op, definition


def test_hardly_any_op_of_the_list_is_unknown_here() -> None:
    unknown = [op for op in allowed_ops().classes if op_def_registry.get(op) is None]
    assert len(unknown) <= 12, unknown  # of another TensorFlow, of 2.18 to 2.21


def test_an_op_is_named_once() -> None:
    text = (tf.io.gfile.GFile("diag/data/allowed_ops.toml")).read().split("[[out]]")[0]
    names = Counter(part for part in text.split('"')[1::2] if part[:1].isupper() and " " not in part)
    assert [name for name, count in names.items() if count > 1] == []


def test_no_op_of_the_list_has_a_state_of_the_process() -> None:
    stateful = [op for kind, op, d in definitions() if d.is_stateful and kind not in STATEFUL_CLASSES]
    assert sorted(stateful) == sorted(STATEFUL_OPS)


def test_no_op_of_the_list_takes_or_gives_texts() -> None:
    for kind, op, definition in definitions():
        dtypes = {argument.type for argument in (*definition.input_arg, *definition.output_arg)}
        allowed = {"variables": {types_pb2.DT_RESOURCE}, "lists": {types_pb2.DT_VARIANT}}.get(kind, set())
        assert not dtypes & ({*NO_NUMBERS} - allowed), op
        assert not any(argument.is_ref for argument in (*definition.input_arg, *definition.output_arg)), op


def test_every_op_of_the_list_gives_something_or_writes_a_variable() -> None:
    silent = {op for kind, op, d in definitions() if not d.output_arg and kind != "variables"}
    assert silent == {"NoOp"}


def test_no_attribute_of_the_list_names_a_file_an_address_or_code() -> None:
    texts, functions = set(), set()
    for kind, _, definition in definitions():
        texts |= {a.name for a in definition.attr if a.type in ("string", "list(string)")}
        functions |= {kind for a in definition.attr if a.type in ("func", "list(func)", "any")}
    assert texts == WORDS | OF_CALLS
    assert functions == {CALLS}


@pytest.mark.parametrize(
    ("op", "why"),
    [
        ("WriteFile", "files"), ("ReadFile", "files"), ("ImmutableConst", "files"), ("MatchingFiles", "files"),
        ("LoadAndRemapMatrix", "files"), ("FixedUnigramCandidateSampler", "files"), ("Skipgram", "files"),
        ("DumpTensor", "files"), ("SaveV2", "checkpoints"), ("RestoreV2", "checkpoints"),
        ("MergeV2Checkpoints", "checkpoints"), ("WriteScalarSummary", "event"), ("CreateSummaryFileWriter", "event"),
        ("ScalarSummary", "event"), ("PrintV2", "prints"), ("Print", "prints"), ("Assert", "prints"),
        ("PyFunc", "Python"), ("PyFuncStateless", "Python"), ("EagerPyFunc", "Python"), ("Abort", "ends the process"),
        ("DataServiceDatasetV2", "data"), ("TFRecordDataset", "data"), ("GeneratorDataset", "data"),
        ("IteratorGetNext", "data"), ("MapDataset", "data"), ("SqlDataset", "data"), ("SaveDataset", "data"),
        ("SnapshotDatasetV2", "data"), ("RpcCall", "other processes"), ("RemoteCall", "other processes"),
        ("CollectiveReduceV2", "other processes"), ("NcclAllReduce", "other processes"), ("Send", "other processes"),
        ("XlaCustomCallV2", "program"), ("XlaCallModule", "program"), ("XlaLaunch", "program"),
        ("MlirPassthroughOp", "program"), ("SymbolicGradient", "program"), ("TPUExecute", "TPU"),
        ("InfeedEnqueue", "TPU"), ("VarHandleOp", "name"), ("HashTableV2", "name"), ("FIFOQueueV2", "name"),
        ("GetSessionHandleV2", "name"), ("BatchFunction", "name"), ("InitializeTableFromTextFileV2", "files"),
        ("LookupTableFindV2", "name"), ("DebugIdentityV3", "address"), ("CopyHost", "address"), ("Empty", "memory"),
        ("_Send", "itself"), ("DecodeJpeg", "texts"), ("StringFormat", "prints"), ("Switch", "TensorFlow 1"),
    ],
)  # fmt: skip
def test_what_is_left_out_says_why(op: str, why: str) -> None:
    assert op in registry()
    assert op not in allowed_ops().classes
    assert why in allowed_ops().reason_out(op)


def test_an_op_that_nobody_knows_is_left_out() -> None:
    assert what_of(graph(make_node("x", "MadeUpOp", []))) == [f"MadeUpOp ({UNKNOWN})"]


def test_nearly_all_that_does_not_compute_is_left_out_for_a_reason() -> None:
    stateful = [op for op, d in registry().items() if d.is_stateful and op not in allowed_ops().classes]
    unnamed = [op for op in stateful if allowed_ops().reason_out(op) == UNKNOWN]
    assert len(stateful) > 400
    assert len(unnamed) < 40, unnamed  # those that only TensorFlow's own tests have, for the most part


# -- every way around it ---------------------------------------------------------------------------


def graph(*nodes: Any) -> Any:
    return GraphDef(node=nodes)


def what_of(graph_def: Any) -> list[str]:
    return [each.what for each in beyond(graph_def)]


def traced(function: Callable[..., Any]) -> Any:
    return tf.function(function, autograph=False).get_concrete_function(tf.TensorSpec([2])).graph.as_graph_def()


def identity(**attrs: Any) -> Any:
    return make_node("x", "Identity", ["y"], T=tf.float32, **attrs)


def test_a_plain_graph_is_allowed() -> None:
    assert beyond(traced(lambda x: tf.nn.relu(x) + 1.0)) == []


STEPS = [("float32", make) for make in (zoo.mlp, zoo.cnn, zoo.lstm, zoo.branching, zoo.two_ways, zoo.two_blocks)]
# What a loss scale and casts add to a step they add to the first of these.
SCALED = [pytest.param("mixed_float16", make, marks=pytest.mark.slow) for _, make in STEPS[1:]]


@pytest.mark.parametrize(("policy", "make"), [*STEPS, ("mixed_float16", zoo.mlp), *SCALED])
def test_the_steps_of_models_are_allowed(make: Any, policy: str) -> None:
    assert beyond(trace(zoo.made(make, policy), zoo.batch_for(make)).graph_def) == []


def test_a_body_of_a_loop_is_looked_into() -> None:
    def prints(x: Any) -> Any:
        return tf.while_loop(
            lambda i, y: i < 3, lambda i, y: (i + 1, tf.ensure_shape(tf.io.parse_tensor("", tf.float32), [2])), [0, x]
        )[1]

    found = beyond(traced(prints))
    assert any(each.what.startswith("ParseTensor") and each.function for each in found)


def test_a_function_that_nothing_calls_is_looked_into() -> None:
    made = traced(lambda x: tf.cond(x[0] > 0, lambda: x, lambda: -x))
    body = made.library.function[0]
    body.node_def.add().CopyFrom(make_node("hidden", "Abort", []))
    del made.node[:]
    assert [(each.node, each.function) for each in beyond(made)] == [("hidden", body.signature.name)]


def test_a_function_must_be_stored() -> None:
    made = traced(lambda x: tf.cond(x[0] > 0, lambda: x, lambda: -x))
    del made.library.function[0]
    assert any("which is not stored" in what for what in what_of(made))


def test_a_function_may_not_take_the_name_of_an_op() -> None:
    made = traced(lambda x: tf.cond(x[0] > 0, lambda: x, lambda: -x))
    made.library.function[0].signature.name = "Relu"
    assert any("the name of an op" in what for what in what_of(made))


def test_a_function_where_none_is_called() -> None:
    node = identity()
    node.attr["T"].func.name = "f"
    assert any("the function f" in what for what in what_of(graph(node)))


@pytest.mark.parametrize("device", ["/job:worker/task:1", "/job:localhost/replica:0/task:1/device:CPU:0", "grpc://a:1"])
def test_a_device_of_another_machine(device: str) -> None:
    node = identity()
    node.device = device
    (what,) = what_of(graph(node))
    assert what == f"Identity on another machine ({device})"


@pytest.mark.parametrize("device", ["", "/device:CPU:0", "/job:localhost/replica:0/task:0/device:GPU:1", "/CPU:0"])
def test_a_device_of_this_machine(device: str) -> None:
    node = identity()
    node.device = device
    assert what_of(graph(node)) == []


@pytest.mark.parametrize("name", ["_kernel", "_tpu_replicate", "_XlaCompile", "_anything", "filename"])
def test_an_attribute_that_is_not_known(name: str) -> None:
    (what,) = what_of(graph(identity(**{name: 1})))
    assert f"the attribute {name}" in what


def test_marks_that_tensorflow_reads_as_code_are_none_of_the_known_ones() -> None:
    assert not MARKS & {"_kernel", "_implements", "_symbolic_gradient", "_mlir"}


@pytest.mark.parametrize("dtype", [tf.string, tf.as_dtype(types_pb2.DT_FLOAT_REF)])
def test_a_dtype_that_holds_no_numbers(dtype: tf.DType) -> None:
    (what,) = what_of(graph(make_node("x", "Identity", ["y"], T=dtype)))
    assert "the dtype DT_" in what


def constant(tensor: Any, dtype: tf.DType) -> Any:
    node = make_node("x", "Const", [], dtype=dtype)
    node.attr["value"].tensor.CopyFrom(tensor)
    return node


def test_a_constant_that_is_a_handle() -> None:
    tensor = tf.make_tensor_proto(1.0)
    tensor.dtype = types_pb2.DT_RESOURCE
    tensor.resource_handle_val.add(name="another's variable")
    assert what_of(graph(constant(tensor, tf.resource))) == ["Const of DT_RESOURCE"]


def test_a_constant_that_claims_more_than_it_stores() -> None:
    tensor = tf.make_tensor_proto(1.0)
    for _ in range(3):
        tensor.tensor_shape.dim.add(size=1 << 20)
    (what,) = what_of(graph(constant(tensor, tf.float32)))
    assert "Const of more than" in what


def call(config: ConfigProto | None = None, executor: bytes = b"") -> Any:
    made = traced(lambda x: tf.function(lambda y: y + 1.0)(x))
    (node,) = (node for node in made.node if node.op.endswith("PartitionedCall"))
    if config is not None:
        node.attr["config_proto"].s = config.SerializeToString()
    node.attr["executor_type"].s = executor
    return made


def test_a_call_may_say_how_it_is_optimized() -> None:
    assert beyond(call()) == []
    config = ConfigProto()
    config.graph_options.rewrite_options.disable_meta_optimizer = True
    assert beyond(call(config)) == []


def test_a_call_may_not_bring_optimizers_machines_or_executors() -> None:
    config = ConfigProto()
    config.graph_options.rewrite_options.custom_optimizers.add(name="theirs")
    assert what_of(call(config)) == ["PartitionedCall with graph optimizers of its own"]
    config = ConfigProto(device_filters=["/job:worker"])
    assert "device_filters in its configuration" in what_of(call(config))[0]
    assert "the executor THEIRS" in what_of(call(executor=b"THEIRS"))[0]


def test_what_is_found_is_told_once_with_its_layer() -> None:
    found = [Beyond("WriteFile (files)", "a"), Beyond("WriteFile (files)", "b"), Beyond("Abort (ends)", "c", "body")]
    layers = {"a": "dense", "b": "dense"}
    assert in_words(found, lambda each: layers.get(each.node)) == "WriteFile (files) in dense, Abort (ends) in body"
