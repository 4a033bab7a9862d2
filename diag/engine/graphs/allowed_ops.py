"""Whether a graph from a file does nothing but compute: what of it is not on the list of diag/data/allowed_ops.toml.

It is read as it is stored, and given to nothing: TensorFlow executes some ops while it only loads a graph, to know a
shape.  Functions are looked into wherever they stand, whether something calls them or not.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any

from google.protobuf.message import DecodeError
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.config_pb2 import ConfigProto

from diag.common.wording import shortened
from diag.engine.graphs.tf_runtime import known_op

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = "data/allowed_ops.toml"
UNKNOWN = "it is on no list"
CALLS = "calls"
NO_NUMBERS = (types_pb2.DT_STRING, types_pb2.DT_RESOURCE, types_pb2.DT_VARIANT)
FIRST_REFERENCE = 100
"""TensorFlow's numbers of dtypes from here on are references to variables of TensorFlow 1."""
HERE = re.compile(r"(/job:localhost)?(/replica:0)?(/task:0)?(/?(device:)?(CPU|GPU|cpu|gpu):\d{1,3})?")
NAME = re.compile(r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*")
"""Of a node (TensorFlow, core/graph/tensor_id.h and python/framework/ops.py)."""
FUNCTION_NAME = re.compile(r"[A-Za-z0-9_.\\/<>-]+")
MOST_ELEMENTS = 1 << 29
"""Of one constant: of float32, as many as a GraphDef can hold; one that is stored as a single value may claim more."""
MOST_SHOWN, LONGEST = 6, 200  # in a message, and characters of each
EXECUTORS = (b"", b"DEFAULT", b"SINGLE_THREADED_EXECUTOR")
# Marks of TensorFlow that kernels and graph optimizers of its own read, and none that names a file, a kernel or code.
MARKS = {
    "_XlaMustCompile", "_XlaScope", "_XlaSeparateCompiledGradients", "_class", "_collective_manager_ids",
    "_construction_context",
    "_disable_call_shape_inference", "_fetch", "_forward_input_shapes", "_gradient_op_type",
    "_has_manual_control_dependencies", "_input_shapes", "_lower_using_switch_merge", "_noinline",
    "_num_original_outputs", "_output_shapes", "_read_only_resource_inputs", "_resource_arg_unique_id", "_stateless",
    "_user_specified_name", "_xla_inferred_shapes",
}  # fmt: skip
# Of what a session can be told: the devices that there are, and how graphs are optimized.
OF_A_CONFIG = {
    "allow_soft_placement", "device_count", "experimental", "gpu_options", "graph_options", "log_device_placement",
    "pluggable_device_options",
}  # fmt: skip
OF_FUNCTIONS = {"api_implements", "api_preferred_device"}  # by which TensorFlow takes one of the library for another
NAMES_OF_FUNCTIONS = {"forward_function_name", "backward_function_name"}


@dataclass(frozen=True)
class Beyond:
    """Something in a graph that is not on the list: `what` in words, and where; function: None in the step itself."""

    what: str
    node: str = ""
    function: str | None = None


@dataclass(frozen=True)
class AllowedOps:
    """The list: op -> class of those that are on it; (class, reason, patterns of names) of those that are not."""

    classes: Mapping[str, str]
    out: tuple[tuple[str, str, tuple[str, ...]], ...]

    def reason_out(self, op: str) -> str:
        """Why an op is not on the list, in words."""
        return next((why for _, why, patterns in self.out if any(fnmatchcase(op, p) for p in patterns)), UNKNOWN)


@cache
def allowed_ops() -> AllowedOps:
    rows = tomllib.loads(resources.files("diag").joinpath(DATA).read_text(encoding="utf-8"))
    return AllowedOps(
        {op: row["class"] for row in rows["allowed"] for op in row["ops"]},
        tuple((row["class"], row["reason"], tuple(row["ops"])) for row in rows["out"]),
    )


def nodes_of(graph_def: Any) -> Iterator[Any]:
    """All nodes, those in the bodies of functions too."""
    yield from graph_def.node
    for function in graph_def.library.function:
        yield from function.node_def


def in_words(found: Sequence[Beyond], layer_of: Callable[[Beyond], str | None]) -> str:
    """`WriteFile (reads or writes files) in dense_1`, each once, the first few of them."""
    where = {each: layer_of(each) or each.function for each in found}
    words = dict.fromkeys(f"{each.what} in {where[each]}" if where[each] else each.what for each in found)
    shown = [shortened(text, LONGEST) for text in list(words)[:MOST_SHOWN]]
    more = [f"{len(words) - MOST_SHOWN} more"] if len(words) > MOST_SHOWN else []
    return ", ".join([*shown, *more])


def beyond(graph_def: Any) -> list[Beyond]:
    """What of a GraphDef is not on the list, in the order in which it stands there."""
    functions = {function.signature.name for function in graph_def.library.function}
    found = [Beyond(what, node.name) for node in graph_def.node for what in _of_node(node, functions)]
    for function in graph_def.library.function:
        name = function.signature.name
        found += [Beyond(what, function=name) for what in _of_function(function, functions)]
        found += [Beyond(what, node.name, name) for node in function.node_def for what in _of_node(node, functions)]
    for gradient in graph_def.library.gradient:
        if not {gradient.function_name, gradient.gradient_func} <= functions:
            found.append(Beyond("a gradient by a function that is not stored", function=gradient.function_name))
    return found


def _of_function(function: Any, functions: set[str]) -> Iterator[str]:
    signature = function.signature
    if not FUNCTION_NAME.fullmatch(signature.name) or known_op(signature.name) is not None:
        yield "a function with the name of an op, or none that TensorFlow gives"
    for name, value in function.attr.items():
        if name in NAMES_OF_FUNCTIONS:
            if value.s.decode(errors="replace") not in functions:
                yield f"the attribute {name}, which names no stored function"
        elif name not in MARKS | OF_FUNCTIONS:
            yield f"the attribute {name} of a function"
    for marks in function.arg_attr.values():
        yield from (f"the attribute {name} of an argument" for name in marks.attr if name not in MARKS)
    for argument in (*signature.input_arg, *signature.output_arg):
        if argument.type_attr or argument.number_attr or argument.type_list_attr:
            yield "a function of any dtype"
        elif not _is_allowed(argument.type):
            yield f"{dtype_name(argument.type)} in a function"


def _of_node(node: Any, functions: set[str]) -> Iterator[str]:
    kind = allowed_ops().classes.get(node.op)
    if kind is None:
        yield f"{node.op} ({allowed_ops().reason_out(node.op)})"
        return
    if not NAME.fullmatch(node.name):
        yield f"{node.op} with a name that TensorFlow gives no node"
    if not HERE.fullmatch(node.device):
        yield f"{node.op} on another machine ({node.device})"
    definition = known_op(node.op)
    known = {attribute.name for attribute in definition.attr} if definition is not None else set(node.attr)
    for name, value in sorted(node.attr.items()):
        if name.startswith("_") and name not in MARKS:
            yield f"{node.op} with the attribute {name}"
        elif not name.startswith("_") and name not in known:
            yield f"{node.op} with the attribute {name}, which it does not have"
        else:
            yield from (f"{node.op} with {what}" for what in _of_value(name, value, kind, functions))
    if node.op == "Const":
        yield from _of_constant(node)


def _of_value(name: str, value: Any, kind: str, functions: set[str]) -> Iterator[str]:
    called = [value.func] if value.HasField("func") else list(value.list.func)
    if called and kind != CALLS:
        yield f"the function {called[0].name}"
    for function in called:
        if function.name not in functions:
            yield f"the function {function.name}, which is not stored"
        if function.attr:
            yield f"attributes of the function {function.name}"
    if value.placeholder or (name == "config" and value.s):
        yield f"the attribute {name} set"
    for dtype in (value.type, *value.list.type):
        if dtype and not _is_allowed(dtype):
            yield f"the dtype {dtype_name(dtype)}"
    if name == "executor_type" and value.s not in EXECUTORS:
        yield f"the executor {value.s.decode(errors='replace')}"
    if name == "config_proto":
        yield from _of_config(value.s)


def _of_config(serialized: bytes) -> Iterator[str]:
    """A call may say how its graph is optimized, and nothing else of what a session can be told."""
    try:
        config = ConfigProto.FromString(serialized)
    except DecodeError:
        yield "a configuration that is none"
        return
    if config.graph_options.rewrite_options.custom_optimizers:
        yield "graph optimizers of its own"
    said = {field.name for field, _ in config.ListFields()} | {
        field.name for field, _ in config.experimental.ListFields()
    }
    if other := sorted(said - OF_A_CONFIG):
        yield f"{other[0]} in its configuration"


def _of_constant(node: Any) -> Iterator[str]:
    tensor = node.attr["value"].tensor
    if tensor.dtype in NO_NUMBERS or not _is_allowed(tensor.dtype) or tensor.dtype != node.attr["dtype"].type:
        yield f"Const of {dtype_name(tensor.dtype)}"
    elif num_elements(tensor.tensor_shape) > MOST_ELEMENTS:
        yield f"Const of more than {MOST_ELEMENTS:,} elements"


def num_elements(shape: Any) -> int:
    """Of a TensorShapeProto; more than anything has, where a size is not known."""
    if shape.unknown_rank or any(axis.size < 0 for axis in shape.dim):
        return sys.maxsize
    return math.prod(axis.size for axis in shape.dim)


def _is_allowed(dtype: int) -> bool:
    return 0 < dtype < FIRST_REFERENCE and dtype != types_pb2.DT_STRING


def dtype_name(dtype: int) -> str:
    """`DT_FLOAT`, as TensorFlow's messages have it; the number where it is no dtype."""
    return types_pb2.DataType.Name(dtype) if dtype in types_pb2.DataType.values() else str(dtype)
