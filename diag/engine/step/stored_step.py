"""What the bytes of a stored step must be before anything goes by them: its parts, its document, its graph.

The document names nodes, and nodes name each other: here every name is found, each node comes after what it reads, and
the nodes of each graph are those that the document gives a location, no more and no fewer.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.tensor_pb2 import TensorProto

from diag.common.wording import shortened
from diag.engine.graphs.allowed_ops import MOST_ELEMENTS, NO_NUMBERS, Beyond, beyond, in_words, nodes_of, num_elements
from diag.engine.graphs.editing import outputs_of
from diag.engine.graphs.graph import parse_input
from diag.engine.graphs.locations import PHASES
from diag.engine.graphs.tf_runtime import known_op
from diag.errors import UserError
from traces.door.records import parsed

PREDICTIONS_FORMAT = 2
MOST_BYTES = 2 << 30
"""Of all parts, inflated: what TensorFlow takes for a graph at most."""
MOST_AXES = 254
"""TensorFlow's own limit (core/framework/tensor_shape.h)."""
MOST_OUTPUTS = 1 << 16
"""Of one node: far more than the longest list of tensors that a step keeps."""
OF_A_SPEC = {"name", "kind", "dtype", "shape", "layer", "of"}
PARTS = {
    "format", "graph", "functions", "batch_inputs", "captures", "constants", "variables", "layers", "loss",
    "layer_outputs", "gradients", "without_gradient",
}  # fmt: skip
PREDICTION_PARTS = PARTS - {"loss"} | {"predictions"}


class Damaged(Exception):
    """The bytes are not those that `dump` made."""


class NotAllowed(Exception):
    """The step does more than to compute: what, in words, and in which layers."""


@dataclass(frozen=True)
class StoredStep:
    """The parts of a step, each of them checked."""

    document: Mapping[str, Any]
    graph_def: Any
    constants: tuple[bytes, ...]


def stored_step(blob: bytes, newest: int, is_trusted: bool) -> StoredStep:
    """The parts of a stored step; not `is_trusted`: of one that does nothing but compute.

    Raises:
      Damaged: these are no such bytes, or not all of them; a ZIP archive has a CRC-32 of each part.
      NotAllowed: it does more.
      UserError: they are of a format after `newest`, or this TensorFlow does not know one of the ops.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(blob)) as file:
            if sum(part.file_size for part in file.infolist()) > MOST_BYTES:
                raise Damaged(f"it inflates to more than {MOST_BYTES >> 30} GiB")
            document = parsed(file.read("program.json"), "program.json")
            _refuse_newer(document, newest)
            _refuse_other_document(document)
            graph_def = GraphDef.FromString(file.read("graph.pb"))
            constants = tuple(file.read(f"constant/{index}") for index in range(len(document["constants"])))
    except (zipfile.BadZipFile, zlib.error, EOFError, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Damaged(shortened(str(error), 300)) from error
    except DecodeError as error:
        raise Damaged("its graph is none") from error
    if not is_trusted and (found := beyond(graph_def)):
        raise NotAllowed(in_words(found, lambda each: _layer_of(each, document)))
    _refuse_other_graph(document, graph_def)
    for name, constant in zip(document["constants"], constants, strict=True):
        _refuse_other_constant(document["graph"]["results"][name], name, constant)
    return StoredStep(document, graph_def, constants)


def _layer_of(found: Beyond, document: Mapping[str, Any]) -> str | None:
    record = document["graph"] if found.function is None else document["functions"].get(found.function, {"sites": {}})
    layer: str | None = record["sites"].get(found.node, [None, None])[1]
    return layer


def _refuse_newer(document: Any, newest: int) -> None:
    _expect(isinstance(document, dict) and _is_count(document.get("format")), "it has no format")
    if document["format"] > newest:
        raise UserError(
            f"The stored step has format {document['format']}; expected at most {newest}; "
            "read it with the version of tf-lockstep that wrote it."
        )


def results_of(document: Mapping[str, Any]) -> Any:
    """The outputs that every run of the step gives: of a training step its loss."""
    return document["predictions"] if "predictions" in document else [document["loss"]]


# -- the document ----------------------------------------------------------------------------------


def _refuse_other_document(document: dict[str, Any]) -> None:
    parts = PREDICTION_PARTS if document["format"] == PREDICTIONS_FORMAT else PARTS
    _expect(document.keys() == parts, f"its parts are not {', '.join(sorted(parts))}")
    _refuse_other_record(document["graph"], "graph", with_results=True)
    _expect(isinstance(document["functions"], dict), "functions is no object")
    for name, function in document["functions"].items():
        _refuse_other_record(function, f"function {name}", with_results=False)
    for part in ("batch_inputs", "constants", "layers", "without_gradient"):
        _expect(_is_list(document[part], _is_text), f"{part} is no list of names")
    _expect(_is_list(document["variables"], _is_spec), "variables is no list of variables")
    count = len(document["variables"])
    captures, outputs = document["captures"], document["layer_outputs"]
    _expect(_is_map(captures, lambda i: _is_count(i) and i < count), "captures names no variables")
    _expect(_is_map(outputs, lambda ports: _is_list(ports, _is_port)), "layer_outputs is no map of outputs")
    _expect(_is_map(document["gradients"], _is_port), "gradients is no map of outputs")
    results = results_of(document)
    _expect(_is_list(results, _is_port) and bool(results), "loss or predictions are no outputs")


def _refuse_other_record(record: Any, what: str, with_results: bool) -> None:
    parts = {"inputs", "outputs", "sites"} | ({"results"} if with_results else set())
    _expect(isinstance(record, dict) and record.keys() == parts, f"{what} has not the parts of a graph")
    _expect(_is_list(record["inputs"], _is_text), f"{what} has inputs that are no names")
    _expect(_is_list(record["outputs"], _is_port), f"{what} has outputs that are none")
    _expect(_is_map(record["sites"], _is_location), f"{what} has locations that are none")
    if with_results:
        _expect(_is_map(record["results"], lambda found: _is_list(found, _is_result)), f"{what} has odd results")


def _is_spec(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == OF_A_SPEC
        and all(_is_text(value[part]) for part in ("name", "kind", "dtype"))
        and all(value[part] is None or _is_text(value[part]) for part in ("layer", "of"))
        and _is_list(value["shape"], _is_count)
    )


def _is_location(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 4
        and value[0] in PHASES
        and all(part is None or _is_text(part) for part in value[1:3])
        and (value[3] is None or _is_count(value[3]))
    )


def _is_result(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2 and _is_count(value[0])):
        return False
    axes = value[1]
    return axes is None or (_is_list(axes, lambda n: n is None or _is_count(n)) and len(axes) <= MOST_AXES)


def _is_port(value: Any) -> bool:
    return isinstance(value, str) and value.rpartition(":")[2].isdecimal() and bool(value.rpartition(":")[0])


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_list(value: Any, is_of_kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(is_of_kind, value))


def _is_map(value: Any, is_of_kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and all(map(is_of_kind, value.values()))


# -- the graph -------------------------------------------------------------------------------------


def _refuse_other_graph(document: Mapping[str, Any], graph_def: Any) -> None:
    functions = {function.signature.name: function for function in graph_def.library.function}
    for node in nodes_of(graph_def):
        _refuse_other_node(node)
    _expect(len(functions) == len(graph_def.library.function), "two functions have one name")
    _expect(functions.keys() == document["functions"].keys(), "its functions are not those that were recorded")
    for name, function in functions.items():
        arguments = [argument.name for argument in function.signature.input_arg]
        _same_names(document["functions"][name], [*arguments, *(n.name for n in function.node_def)], f"function {name}")
    record = document["graph"]
    _same_names(record, [node.name for node in graph_def.node], "the step")
    _expect(record["sites"].keys() == record["results"].keys(), "nodes without results")
    sizes = _sizes(record, {node.name: node for node in graph_def.node})
    ports = [*results_of(document), *record["outputs"], *document["gradients"].values()]
    ports += [port for found in document["layer_outputs"].values() for port in found]
    _expect(all(_is_output(sizes, *_split(port)) for port in ports), "it names outputs that no node has")
    fed = [*document["batch_inputs"], *document["captures"], *document["constants"]]
    _expect(set(fed) <= set(record["inputs"]) <= sizes.keys(), "its inputs are none of its nodes")
    placeholders = {node.name for node in graph_def.node if node.op == "Placeholder"}
    _expect(set(record["inputs"]) <= placeholders, "its inputs are no placeholders")
    _expect(placeholders <= set(fed), "it has placeholders that nothing is given to")


def _refuse_other_node(node: Any) -> None:
    """That TensorFlow knows the op, and how many outputs it says it has is a number that a graph can have."""
    definition = known_op(node.op)
    if definition is None:
        raise UserError(
            f"The stored training step has the op {node.op}, which TensorFlow {tf.__version__} does not know; replay "
            "it with the TensorFlow that recorded it."
        )
    counts = [node.attr[argument.number_attr].i for argument in definition.output_arg if argument.number_attr]
    _expect(all(count <= MOST_OUTPUTS for count in counts), f"{node.name} has more than {MOST_OUTPUTS:,} outputs")


def _same_names(record: Mapping[str, Any], names: list[str], what: str) -> None:
    """The nodes of a graph are those that have a location."""
    there, recorded = set(names), record["sites"].keys()
    _expect(len(there) == len(names), f"{what} has two nodes of one name")
    if other := sorted(there ^ recorded):
        kind = "no recorded location" if other[0] in there else "a location and no node"
        raise Damaged(f"{other[0]} in {what} has {kind}")


def _sizes(record: Mapping[str, Any], nodes: Mapping[str, Any]) -> dict[str, int]:
    """Node -> how many outputs it has, once each node is known to come after what it reads."""
    sizes: dict[str, int] = {}
    for name in record["sites"]:
        node = nodes[name]
        for text in node.input:
            try:
                source, index = parse_input(text)
            except ValueError:
                raise Damaged(f"{name} reads {text}, which is no output") from None
            _expect(_is_output(sizes, source, index), f"{name} reads {text}, which is no output of a node before it")
        dtypes = [dtype for dtype, _ in record["results"][name]]
        _expect(dtypes == [dtype for _, dtype in outputs_of(node)], f"{name} computes other dtypes than were recorded")
        sizes[name] = len(dtypes)
    return sizes


def _is_output(sizes: Mapping[str, int], node: str, index: int | None) -> bool:
    return node in sizes and (index is None or 0 <= index < sizes[node])


def _split(port: str) -> tuple[str, int]:
    node, _, index = port.rpartition(":")
    return node, int(index)


def _refuse_other_constant(results: Iterable[Any], name: str, constant: bytes) -> None:
    """A constant of numbers, of the dtype and shape of the placeholder that it stands for."""
    ((dtype, axes),) = results
    try:
        tensor = TensorProto.FromString(constant)
    except DecodeError as error:
        raise Damaged(f"the constant {name} is none") from error
    _expect(tensor.dtype == dtype and dtype not in NO_NUMBERS, f"the constant {name} is of another dtype")
    stored = [axis.size for axis in tensor.tensor_shape.dim]
    fits = axes is None or (len(axes) == len(stored) and all(a in (None, b) for a, b in zip(axes, stored, strict=True)))
    _expect(fits and num_elements(tensor.tensor_shape) <= MOST_ELEMENTS, f"the constant {name} is of another shape")


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Damaged(otherwise)
