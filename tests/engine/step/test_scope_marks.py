"""Marked scopes against the same trace without marks: the same names, and every mark known."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from diag.engine.graphs.locations import layer_scope, mark_of, update_scope, without_marks
from diag.engine.step.scope_marks import MarkedNames, marked, marks_beside_names


def chain(mark: Callable[[str], Any], x: tf.Tensor) -> tf.Tensor:
    for index in range(2):
        with mark(layer_scope(index)), tf.name_scope("dense"):
            x = tf.exp(x) + 1.0
    return tf.sin(x)


def loop(mark: Callable[[str], Any], x: tf.Tensor) -> tf.Tensor:
    def body(i: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with mark(layer_scope(1)):
            return i + 1, tf.sin(y) * tf.reduce_sum(x)

    with mark(layer_scope(0)):
        return tf.while_loop(lambda i, _: i < 3, body, (0, x))[1]


def branches(mark: Callable[[str], Any], x: tf.Tensor) -> tf.Tensor:
    with mark(layer_scope(0)):
        return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.exp(x), lambda: tf.sin(x))


def scope_entered_again(mark: Callable[[str], Any], x: tf.Tensor) -> tf.Tensor:
    with mark(layer_scope(0)), tf.name_scope("dense") as scope:
        x = tf.exp(x)
    with mark(layer_scope(1)), tf.name_scope(scope):
        return tf.exp(x, name=scope)


def traced(make: Callable[..., tf.Tensor], mark: Callable[[str], Any]) -> tf.Graph:
    @tf.function(autograph=False)
    def step(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = make(mark, x)
        return tape.gradient(y, x)

    return step.get_concrete_function(tf.TensorSpec((3,))).graph


def both(make: Callable[..., tf.Tensor]) -> tuple[tf.Graph, tf.Graph, MarkedNames]:
    plain = traced(make, lambda _: contextlib.nullcontext())
    with marks_beside_names() as marked_names:
        return plain, traced(make, marked), marked_names


def nodes(graph: tf.Graph) -> list[tuple[str, str]]:
    """(op, name) in every function of a graph; a function's name ends in numbers that are used once in a process."""
    definition = graph.as_graph_def()
    bodies = [definition.node, *(f.node_def for f in definition.library.function)]
    named = [(node.op, node.name) for body in bodies for node in body]
    arguments = [("argument", a.name) for f in definition.library.function for a in f.signature.input_arg]
    functions = [("function", f.signature.name) for f in definition.library.function]
    return sorted((op, re.sub(r"_\d+", "_#", name)) for op, name in [*named, *arguments, *functions])


@pytest.mark.parametrize("make", [chain, loop, branches, scope_entered_again])
def test_names_are_those_of_a_trace_without_marks(make):
    plain, graph, marked_names = both(make)
    assert nodes(graph) == nodes(plain)
    assert all(without_marks(full) == name for names in marked_names.values() for name, full in names.items())


def test_every_op_of_a_mark_is_known_forward_and_backward():
    _, graph, marked_names = both(chain)
    marks = {name: mark_of(full) for name, full in marked_names[graph].items()}
    found = {(mark.index, mark.backward) for mark in marks.values()}
    assert found == {(0, False), (0, True), (1, False), (1, True)}
    assert (marks["dense/Exp"].index, marks["dense_1/Exp"].index) == (0, 1)
    assert "Sin" not in marks


def test_a_loop_keeps_for_its_gradient_what_the_layer_inside_made():
    _, _, marked_names = both(loop)
    kept = [full for names in marked_names.values() for full in names.values() if full.endswith("accumulator")]
    assert {mark_of(full).index for full in kept} >= {1}


def test_nothing_stays_replaced():
    before = tf.Graph.unique_name, tf.Graph._create_op_internal
    with pytest.raises(KeyError), marks_beside_names():
        raise KeyError
    assert (tf.Graph.unique_name, tf.Graph._create_op_internal) == before


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("dense/MatMul", "dense/MatMul"),
        (f"{layer_scope(3)}/dense/{layer_scope(12)}/MatMul", "dense/MatMul"),
        (f"gradient_tape/{layer_scope(3)}/", "gradient_tape/"),
        (f"lockstep.optimizer/{update_scope(0)}/adam", "lockstep.optimizer/adam"),
        (f"dense/{layer_scope(0)}", "dense"),
        ("lockstep.loss/Mean", "lockstep.loss/Mean"),
    ],
)
def test_only_marks_of_layers_and_updates_are_taken_out(name, plain):
    assert without_marks(name) == plain
