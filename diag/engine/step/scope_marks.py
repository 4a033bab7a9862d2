"""Marks in the name scopes of a trace that do not show in the names of its ops.

A mark is a name scope of our own, so it goes wherever TensorFlow carries a scope: into loops, into
branches, and into the scope of a gradient (`gradient_tape/...`).  But names are not only names to
TensorFlow's graph optimizer, so an op is named as if the marks were not there, and its name with
the marks is kept beside the graph.

Private names used: `tf.Graph._create_op_internal`, and of `tensorflow.python.ops` the names that
loops and branches make of scopes and of other ops: `control_flow_util_v2.unique_fn_name`,
`while_v2._build_cond_placeholders_name_prefix` and `while_v2._build_accumulator_name`.
tests/engine/step/test_scope_marks.py fails when one of them changes its meaning.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.func_graph import FuncGraph
from tensorflow.python.ops import control_flow_util_v2, while_v2

from diag.engine.graphs.graph import Port
from diag.engine.graphs.locations import without_marks

MarkedNames = Mapping[tf.Graph, Mapping[str, str]]
"""Of each graph, the names of ops that were made inside marks, with these."""


@contextlib.contextmanager
def marked(mark: str) -> Iterator[None]:
    """Ops made inside carry this mark, within `marks_beside_names`."""
    outer = tf.get_current_name_scope()
    with tf.name_scope(f"{outer}/{mark}/" if outer else f"{mark}/"):
        yield


@contextlib.contextmanager
def marks_beside_names(shapes: Mapping[Port, Sequence[int]] | None = None) -> Iterator[MarkedNames]:
    """Ops made inside are named without marks; those of the outermost graph give tensors of the known shapes."""
    marked_names: dict[tf.Graph, dict[str, str]] = defaultdict(dict)
    unique_name, create_op = tf.Graph.unique_name, tf.Graph._create_op_internal
    function_name = control_flow_util_v2.unique_fn_name
    placeholder_name = while_v2._build_cond_placeholders_name_prefix
    accumulator_name = while_v2._build_accumulator_name

    def unique_name_with_marks(graph: tf.Graph, name: str, mark_as_used: bool = True) -> str:
        """Unique among names without marks."""
        scope = graph.get_name_scope()
        full = f"{scope}/{name}" if scope else name
        plain = without_marks(full)
        if plain == full:
            return unique_name(graph, name, mark_as_used)  # type: ignore[no-any-return]
        with graph.name_scope(None):
            return full + unique_name(graph, plain, mark_as_used)[len(plain) :]

    def create_op_without_marks(
        graph: tf.Graph,
        op_type: str,
        inputs: Sequence[Any],
        dtypes: Any = None,
        input_types: Any = None,
        name: str | None = None,
        *rest: Any,
        **others: Any,
    ) -> tf.Operation:
        full = name[:-1] if name and name.endswith("/") else graph.unique_name(op_type if name is None else name)
        plain = without_marks(full)
        if plain != full:
            marked_names[graph][plain] = full
        op = create_op(graph, op_type, inputs, dtypes, input_types, f"{plain}/", *rest, **others)
        if shapes and not isinstance(graph.outer_graph, FuncGraph):
            for index, output in enumerate(op.outputs):
                output.set_shape(shapes.get(Port(op.name, index)))
        return op

    def accumulator_name_with_marks(tensor: tf.Tensor) -> str:
        """What a loop keeps for its gradient belongs to the layer that made it."""
        name = tensor.op.name
        full = marked_names[tensor.graph].get(name, name)
        return accumulator_name(tensor).replace(name, full, 1)  # type: ignore[no-any-return]

    with (
        _replaced(tf.Graph, "unique_name", unique_name_with_marks),
        _replaced(tf.Graph, "_create_op_internal", create_op_without_marks),
        _replaced(
            control_flow_util_v2, "unique_fn_name", lambda scope, name: function_name(without_marks(scope), name)
        ),
        _replaced(
            while_v2, "_build_cond_placeholders_name_prefix", lambda graph: without_marks(placeholder_name(graph))
        ),
        _replaced(while_v2, "_build_accumulator_name", accumulator_name_with_marks),
    ):
        yield marked_names


@contextlib.contextmanager
def _replaced(owner: Any, name: str, function: Callable[..., Any]) -> Iterator[None]:
    original = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, original)
