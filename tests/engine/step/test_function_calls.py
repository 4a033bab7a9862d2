"""Functions as they were made before TensorFlow 2, called as those of today."""

from __future__ import annotations

import tensorflow as tf
from tensorflow.python.framework import function

from diag.engine.graphs.graph import graph_of
from diag.engine.graphs.runtime_functions import Argument, Definition, RuntimeFunction
from diag.engine.graphs.tf_runtime import register_function
from diag.engine.step.function_calls import with_calls_of_today

SCALAR = tf.TensorSpec((), tf.float32)


def test_calls_by_name_become_calls_of_a_function_inside_of_functions_too():
    @function.Defun(tf.float32, tf.float32)
    def both(a, b):
        return a + b, a * b

    @function.Defun(tf.float32)
    def twice(a):
        total, product = both(a, 2.0 * a)
        again, _ = both(product, total)
        return again, total

    traced = tf.function(lambda x: twice(x)[0] - both(x, x)[1]).get_concrete_function(SCALAR).graph
    graph_def = traced.as_graph_def()
    names = {each.signature.name for each in graph_def.library.function}
    before = [node.op for node in graph_of(traced)]
    graph = with_calls_of_today(graph_def, graph_of(traced))
    assert names & set(before)
    for ops in ([n.op for n in graph], *([n.op for n in each.node_def] for each in graph_def.library.function)):
        assert not names & set(ops)
    assert {name for node in graph for name in node.function_names()} <= names
    for each in graph_def.library.function:
        register_function(each)
    results = [str(port) for port in graph.outputs]
    run = RuntimeFunction(Definition(graph_def.node, [Argument(graph.inputs[0], tf.float32)], results, "", False))
    x = 3.0
    assert run([tf.constant(x)])[0].numpy() == (2 * x * x + 3 * x) - x * x


def test_a_graph_without_any_stays_as_it_is():
    traced = tf.function(lambda x: x + 1).get_concrete_function(SCALAR).graph
    graph_def, graph = traced.as_graph_def(), graph_of(traced)
    before = graph_def.SerializeToString(deterministic=True)
    assert with_calls_of_today(graph_def, graph) is graph
    assert graph_def.SerializeToString(deterministic=True) == before
