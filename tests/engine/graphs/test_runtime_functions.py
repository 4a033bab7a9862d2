"""Graphs given to the runtime as they are: written by hand, and held against the `tf.function` they came from."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from diag.engine.graphs.editing import make_node
from diag.engine.graphs.runtime_functions import Argument, Definition, RuntimeFunction
from diag.engine.graphs.tf_runtime import register_function

X, HANDLE = Argument("x", tf.float32), Argument("v", tf.resource)


def definition(nodes: Sequence[Any], results: Sequence[str], *arguments: Argument, device: str = "") -> Definition:
    return Definition(nodes, arguments, results, device, is_xla=False)


def node(name: str, op: str, *inputs: str, **attrs: Any) -> Any:
    return make_node(name, op, inputs, **({"T": tf.float32} | attrs))


def reads(name: str, handle: str = "v", *control: str) -> Any:
    return make_node(name, "ReadVariableOp", [handle, *control], dtype=tf.float32)


def writes(name: str, value: str, handle: str = "v", op: str = "AssignVariableOp") -> Any:
    return make_node(name, op, [handle, value], dtype=tf.float32)


def values(function: RuntimeFunction, *inputs: Any) -> list[Any]:
    return [tensor.numpy().tolist() for tensor in function(inputs)]


# ---- order


def test_a_read_before_a_write_has_what_was_there_and_one_after_it_what_was_written():
    found = definition([reads("before"), writes("write", "x"), reads("after")], ["before:0", "after:0"], X, HANDLE)
    assert found.waits == {"before": [], "write": ["before"], "after": ["write"]}
    function, variable = RuntimeFunction(found), tf.Variable(0.0)
    for number in range(1, 20):
        assert values(function, tf.constant(float(number)), variable.handle) == [number - 1, number]


def test_the_last_of_two_writes_stays():
    twice = [node("double", "AddV2", "x", "x"), writes("first", "double"), writes("second", "x"), reads("after")]
    found = definition(twice, ["after:0"], X, HANDLE)
    assert found.waits == {"first": [], "second": ["first"], "after": ["second"]}
    function, variable = RuntimeFunction(found), tf.Variable(0.0)
    for number in range(1, 20):
        assert values(function, tf.constant(float(number)), variable.handle) == [number]
        assert variable.numpy() == number


def test_a_write_waits_for_every_read_before_it_and_reads_do_not_wait_for_each_other():
    nodes = [reads("one"), reads("other"), writes("write", "x"), reads("third"), reads("fourth")]
    found = definition(nodes, [f"{name}:0" for name in ("one", "other", "third", "fourth")], X, HANDLE)
    assert found.waits == {
        "one": [], "other": [], "write": ["one", "other"], "third": ["write"], "fourth": ["write"],
    }  # fmt: skip


def test_an_identity_of_a_handle_is_the_same_variable():
    handed = node("handed", "Identity", "v", T=tf.resource)
    again = node("again", "Identity", "handed", T=tf.resource)
    nodes = [handed, again, reads("before"), writes("write", "x", "again"), reads("after", "handed")]
    found = definition(nodes, ["before:0", "after:0"], X, HANDLE)
    assert found.waits == {"before": [], "write": ["before"], "after": ["write"]}
    assert values(RuntimeFunction(found), tf.constant(3.0), tf.Variable(1.0).handle) == [1.0, 3.0]


def test_ops_on_one_variable_do_not_wait_for_those_on_another():
    other = Argument("w", tf.resource)
    nodes = [writes("write", "x"), reads("here"), reads("there", "w")]
    assert definition(nodes, ["here:0", "there:0"], X, HANDLE, other).waits == {
        "write": [], "here": ["write"], "there": [],
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(8))
def test_any_order_of_reads_and_writes_gives_what_that_order_gives(seed):
    """Held against the same reads and writes in Python."""
    draw = random.Random(seed)
    kinds = [draw.choice(["read", "assign", "add"]) for _ in range(12)]
    expected, state, nodes, results = [], 1.0, [], []
    for index, kind in enumerate(kinds):
        name = f"{kind}{index}"
        if kind == "read":
            nodes.append(reads(name))
            results.append(f"{name}:0")
            expected.append(state)
        else:
            value = node(f"value{index}", "Mul", "x", f"factor{index}")
            factor = make_node(f"factor{index}", "Const", [], dtype=tf.float32)
            factor.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(float(index)))
            op = "AssignVariableOp" if kind == "assign" else "AssignAddVariableOp"
            nodes += [factor, value, writes(name, value.name, op=op)]
            state = 2.0 * index + (state if kind == "add" else 0.0)
    variable = tf.Variable(1.0)
    found = RuntimeFunction(definition(nodes, results, X, HANDLE))([tf.constant(2.0), variable.handle])
    assert [value.numpy() for value in found] == expected
    assert variable.numpy() == state


def test_a_write_that_reads_what_was_put_in_later_stays_where_it_was():
    nodes = [reads("before"), writes("write", "put_in"), reads("after"), node("put_in", "AddV2", "x", "before")]
    found = definition(nodes, ["before:0", "after:0"], X, HANDLE)
    assert found.waits == {"before": [], "write": ["before"], "after": ["write"]}
    assert values(RuntimeFunction(found), tf.constant(3.0), tf.Variable(1.0).handle) == [1.0, 4.0]


def test_what_stands_after_its_reader_keeps_its_order():
    nodes = [node("sum", "AddV2", "before", "x", "^write"), reads("before"), writes("write", "x")]
    found = definition(nodes, ["sum:0"], X, HANDLE)
    assert found.kept == ["before", "write", "sum"] and found.waits == {"before": [], "write": ["before"]}


# ---- structure


def product(
    names: Sequence[str] = ("product", "sum"), transposed: bool = False, swapped: bool = False, dtype: Any = tf.float32
) -> Definition:
    """x y + x."""
    first, second = names
    flag = tf.compat.v1.AttrValue(b=transposed)
    inputs = (first, "x")[:: -1 if swapped else 1]
    nodes = [
        make_node(first, "MatMul", ["x", "y"], T=dtype, transpose_a=flag),
        make_node(second, "AddV2", inputs, T=dtype),
    ]
    return definition(nodes, [f"{second}:0"], Argument("x", dtype), Argument("y", dtype))


def test_graphs_that_differ_in_names_alone_are_one_function():
    first = RuntimeFunction.of(product())
    assert RuntimeFunction.of(product(("a/very/other", "name"))) is first
    x, y = tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([[0.0, 1.0], [1.0, 0.0]])
    assert values(first, x, y) == [[[3.0, 3.0], [7.0, 7.0]]]


def test_the_names_of_arguments_are_no_difference_and_their_order_is_one():
    nodes = [node("difference", "Sub", "a", "b")]
    a, b = Argument("a", tf.float32), Argument("b", tf.float32)
    assert definition(nodes, ["difference:0"], a, b).structure != definition(nodes, ["difference:0"], b, a).structure
    renamed = definition([node("d", "Sub", "p", "q")], ["d:0"], Argument("p", tf.float32), Argument("q", tf.float32))
    assert renamed.structure == definition(nodes, ["difference:0"], a, b).structure


def test_where_a_node_was_to_be_is_no_difference():
    colocated = node("y", "Exp", "x")
    colocated.attr["_class"].list.s.append(b"loc:@nobody")
    plain = definition([node("y", "Exp", "x")], ["y:0"], X)
    found = definition([colocated], ["y:0"], X)
    assert found.structure == plain.structure
    assert values(RuntimeFunction(found), tf.constant(0.0)) == [1.0]  # who is not there is not waited for


@pytest.mark.parametrize(
    "other",
    [product(transposed=True), product(swapped=True), product(dtype=tf.float64)],
    ids=["an attribute", "the wiring", "the dtype of arguments"],
)
def test_graphs_that_differ_otherwise_are_two_functions(other):
    assert RuntimeFunction.of(product()) is not RuntimeFunction.of(other)


def test_what_is_returned_and_where_it_runs_and_shapes_are_differences():
    nodes = [node("e", "Exp", "x"), node("l", "Log", "x")]
    of_shape = Argument("x", tf.float32, tf.TensorShape([3]))
    found = [
        definition(nodes, ["e:0", "l:0"], X),
        definition(nodes, ["l:0", "e:0"], X),
        definition(nodes, ["e:0", "l:0"], of_shape),
        definition(nodes, ["e:0", "l:0"], X, device="/device:CPU:0"),
        Definition(nodes, [X], ["e:0", "l:0"], "", is_xla=True),
    ]
    assert len({each.structure for each in found}) == len(found)


def test_the_dtype_of_an_argument_that_no_op_reads_is_a_difference():
    one, other = (definition([], ["x:0"], Argument("x", dtype)) for dtype in (tf.float32, tf.float64))
    assert one.structure != other.structure
    assert RuntimeFunction(other)([tf.constant(0.1, tf.float64)])[0].numpy() == 0.1


def test_the_order_of_writes_is_a_difference():
    """The same nodes, wired alike; only which of two writes is the last differs."""
    double = node("double", "AddV2", "x", "x")
    first, second = writes("first", "x"), writes("second", "double")
    one, other = (definition([double, *each], ["double:0"], X, HANDLE) for each in ((first, second), (second, first)))
    assert one.structure != other.structure


# ---- what is kept


def test_what_nothing_needs_is_left_out_and_effects_are_kept():
    nodes = [
        node("result", "Exp", "x"),
        node("dead", "Log", "x"),
        node("deader", "Neg", "dead"),
        node("added", "Mul", "x", "x"),
        writes("effect", "added", op="AssignAddVariableOp"),
    ]
    found = definition(nodes, ["result:0"], X, HANDLE)
    assert set(found.kept) == {"result", "added", "effect"} and found.effects == ["effect"]
    variable = tf.Variable(1.0)
    RuntimeFunction(found)([tf.constant(3.0), variable.handle])
    assert variable.numpy() == 10.0


def test_an_effect_alone_is_a_function_of_no_result():
    variable = tf.Variable(1.0)
    assert (
        RuntimeFunction(definition([writes("effect", "x")], [], X, HANDLE))([tf.constant(4.0), variable.handle]) == []
    )
    assert variable.numpy() == 4.0


def test_a_check_that_nothing_reads_is_made():
    condition = Argument("fine", tf.bool)
    check = make_node("check", "Assert", ["fine", "x"], T=[tf.float32])
    function = RuntimeFunction(definition([check, node("y", "Exp", "x")], ["y:0"], X, condition))
    assert values(function, tf.constant(0.0), tf.constant(True)) == [1.0]
    with pytest.raises(tf.errors.InvalidArgumentError, match="assertion failed"):
        function([tf.constant(0.0), tf.constant(False)])


def test_an_argument_can_be_a_result_and_what_waits_for_an_argument_does_not_wait():
    found = definition([node("y", "Exp", "x", "^z")], ["x:0", "y:0", "x:0"], X, Argument("z", tf.float32))
    assert values(RuntimeFunction(found), tf.constant(0.0), tf.constant(5.0)) == [0.0, 1.0, 0.0]


def test_outputs_of_an_op_are_told_apart():
    lists = node("parts", "Unpack", "x", num=3, axis=0)
    function = RuntimeFunction(definition([lists], ["parts:2", "parts", "parts:1"], X))
    assert values(function, tf.constant([1.0, 2.0, 3.0])) == [3.0, 1.0, 2.0]


# ---- how long the runtime knows it


def test_a_function_that_nobody_holds_is_forgotten():
    function = RuntimeFunction.of(product())
    name, same = function.name, RuntimeFunction.of(product())
    del function
    gc.collect()
    assert context.context().has_function(name)
    del same
    gc.collect()
    assert not context.context().has_function(name)
    assert RuntimeFunction.of(product()).name != name


# ---- against a tf.function


def layers(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """What the optimizers rewrite: a chain they fuse, equal ops they merge, constants they fold."""
    hidden = tf.nn.relu(tf.matmul(x, w) + tf.constant(0.1, shape=[24]))
    twice = tf.exp(hidden, name="one") + tf.exp(hidden, name="other")
    folded = tf.reduce_sum(twice * (tf.constant(3.0) / tf.constant(7.0)), axis=-1)
    return hidden, folded, tf.math.erf(folded) * tf.math.sigmoid(folded) / 3.0


def updates(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Reads and writes of a variable, in an order that matters."""
    before = VARIABLE * x
    VARIABLE.assign(tf.tanh(VARIABLE + tf.reduce_mean(w)))
    VARIABLE.assign_add(before[0, 0])
    return before, VARIABLE * 2.0


def loops(x: tf.Tensor, w: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """The body of a loop and the branches of a condition are functions of their own."""
    looped = tf.while_loop(lambda i, y: i < 5, lambda i, y: (i + 1, tf.tanh(tf.matmul(y, w) @ tf.transpose(w))), (0, x))
    return looped[1], tf.cond(tf.reduce_sum(x) > 0, lambda: x * 3.0, lambda: x / 3.0)


VARIABLE = tf.Variable(0.25)
NUMBERS = np.random.default_rng(0)
INPUTS = [tf.constant(NUMBERS.normal(size=shape), tf.float32) for shape in ((16, 40), (40, 24))]


def given_as_it_is(concrete: Any, is_fresh: bool = True) -> tuple[RuntimeFunction, list[Any]]:
    """The graph of a trace as a function, and the handles that it captured."""
    graph_def = concrete.graph.as_graph_def()
    for each in graph_def.library.function:
        register_function(each)
    arguments = [Argument(tensor.op.name, tensor.dtype, tensor.shape) for tensor in concrete.inputs]
    results = [tensor.name for tensor in concrete.outputs]
    return RuntimeFunction(Definition(graph_def.node, arguments, results, "", is_xla=False)), concrete.captured_inputs


@pytest.mark.parametrize("is_optimized", [True, False], ids=["optimized", "as it is"])
@pytest.mark.parametrize("step", [layers, updates, loops])
def test_results_are_those_of_the_tf_function_bit_for_bit(step, is_optimized):
    kept = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": not is_optimized})
    try:
        concrete = tf.function(step, autograph=False).get_concrete_function(*INPUTS)
        VARIABLE.assign(0.25)
        expected = [*concrete(*INPUTS), VARIABLE.read_value()]
    finally:
        tf.config.optimizer.set_experimental_options(
            {"disable_meta_optimizer": kept.get("disable_meta_optimizer", False)}
        )
    function, captured = given_as_it_is(concrete)
    VARIABLE.assign(0.25)
    received = [*function([*INPUTS, *captured], is_optimized), VARIABLE.read_value()]
    assert [x.numpy().tobytes() for x in received] == [x.numpy().tobytes() for x in expected]


def test_a_function_outlives_the_trace_that_its_loop_came_from():
    def looped(x: tf.Tensor, w: tf.Tensor) -> tf.Tensor:
        return tf.while_loop(lambda y: tf.reduce_sum(y) < 100.0, lambda y: (y + 1.5,), (x,))[0]

    def made() -> RuntimeFunction:
        return given_as_it_is(tf.function(looped, autograph=False).get_concrete_function(*INPUTS))[0]

    function = made()
    gc.collect()
    (received,) = function(INPUTS)
    expected = INPUTS[0].numpy()
    while expected.sum(dtype=np.float32) < 100.0:
        expected = expected + np.float32(1.5)
    np.testing.assert_array_equal(received, expected)


def executed(run: Callable[[], Any]) -> list[str]:
    """The ops that the runtime executes in place of functions, as it optimized them when first called."""
    current = context.context()
    current.enable_graph_collection()
    try:
        run()
        graphs = current.export_run_metadata().function_graphs
    finally:
        current.disable_graph_collection()
    return [node.op for graph in graphs for part in graph.partition_graphs for node in part.node]


def test_one_function_runs_with_and_without_graph_optimizers():
    """Two equal ops become one where optimizers run, whichever way it was called before."""
    concrete = tf.function(layers, autograph=False).get_concrete_function(*INPUTS)
    function, captured = given_as_it_is(concrete)
    assert executed(lambda: function([*INPUTS, *captured], False)).count("Exp") == 2
    assert executed(lambda: function([*INPUTS, *captured], True)).count("Exp") == 1
