"""A traced step as bytes and back: a step can be run again where the code that made it is not at hand.

A ZIP archive of `program.json` (names, sites, shapes), `graph.pb` (a GraphDef) and one serialised
tensor for each constant captured by value.  A GraphDef from a stranger could read and write files, as a
SavedModel can, some of it while it is loaded; so what comes out of bytes is checked first (`stored_step.py`).
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import tensorflow as tf

from diag.common.modes import PREDICT, TRAIN
from diag.common.wording import first_line
from diag.engine.graphs.allowed_ops import Beyond, beyond, in_words
from diag.engine.graphs.graph import OPAQUE, Graph, Node, Port, parse_input
from diag.engine.graphs.locations import Location
from diag.engine.graphs.tf_runtime import PYTHON_FUNCTIONS
from diag.engine.step.keras_calls import body_graph
from diag.engine.step.program import Program, RawVariable, VariableSpec
from diag.engine.step.stored_step import Damaged, results_of, stored_step
from diag.engine.step.watching import with_watched_tensors
from diag.errors import UserError

FORMATS = {TRAIN: 1, PREDICT: 2}
"""Format 2 has `predictions` where format 1 has the `loss`."""


class NotStorable(Exception):
    """Why a program cannot be kept as bytes."""


def dump(program: Program) -> bytes:
    """The program as bytes.

    Raises:
      NotStorable: it captures something that lives only in this process (a lookup table, a Python
        function).
    """
    for node in [*program.graph, *(node for body in program.functions.values() for node in body)]:
        if node.op in PYTHON_FUNCTIONS:
            raise NotStorable(f"{node.name} calls a Python function, which lives only in the process that made it")
    for name, value in program.constants.items():
        if value.dtype in OPAQUE:
            raise NotStorable(f"{name} is a {value.dtype.name}, which lives only in the process that made it")
    document = {
        "format": FORMATS[program.mode],
        "graph": _graph_document(program.graph, with_shapes=True),
        "functions": {name: _graph_document(body, with_shapes=False) for name, body in program.functions.items()},
        "batch_inputs": program.batch_inputs,
        "captures": program.captures,
        "constants": list(program.constants),
        "variables": [asdict(spec) for spec in program.variables],
        "layers": program.layers,
        **(
            {"predictions": list(map(str, program.predictions))} if program.predictions else {"loss": str(program.loss)}
        ),
        "layer_outputs": {name: [str(port) for port in ports] for name, ports in program.layer_outputs.items()},
        "gradients": {name: str(port) for name, port in program.gradients.items()},
        "without_gradient": program.without_gradient,
    }
    graph = _without_process(program.graph_def).SerializeToString(deterministic=True)
    constants = {f"constant/{i}": tf.io.serialize_tensor(x).numpy() for i, x in enumerate(program.constants.values())}
    return _archive({"program.json": json.dumps(document).encode(), "graph.pb": graph, **constants})


def _without_process(graph_def: Any) -> Any:
    """A copy with no names of gradients, which this process alone knows and numbers as it comes to them."""
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    for nodes in (copy.node, *(function.node_def for function in copy.library.function)):
        for node in nodes:
            node.attr.pop("_gradient_op_type", None)
    return copy


def _archive(parts: dict[str, bytes]) -> bytes:
    """A ZIP archive with no times in it: the same step gives the same bytes."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in parts.items():
            file.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


def load(blob: bytes, is_trusted: bool = False) -> Program:
    """The program that `dump` made bytes of, with no values for its variables yet (`with_state`).

    is_trusted: whatever ops its graph has, not only those that compute and do nothing else.

    Raises:
      Damaged: these are no such bytes, or not all of them.
      NotAllowed: its graph has other ops.
      UserError: the bytes are of a newer format, or this TensorFlow does not know one of its ops.
    """
    step = stored_step(blob, max(FORMATS.values()), is_trusted)
    program = _program(step.document, step.graph_def, step.constants)
    for port in (Port(name, 0) for name in program.batch_inputs):
        if not program.graph.shape(port).is_fully_defined():
            raise Damaged(f"{port} has no shape")
    return program


def not_allowed_in(program: Program) -> str:
    """What a program does beyond computing, in words: what keeps others from loading it. Empty: nothing."""

    def layer_of(found: Beyond) -> str | None:
        graph = program.graph if found.function is None else program.functions[found.function]
        node = graph.by_name.get(found.node)
        return None if node is None else node.location.layer

    return in_words(beyond(program.graph_def), layer_of)


def _program(document: Mapping[str, Any], graph_def: Any, constants: Sequence[bytes]) -> Program:
    graph = _graph(document["graph"], {node.name: node for node in graph_def.node})
    specs = tuple(VariableSpec(**{**spec, "shape": tuple(spec["shape"])}) for spec in document["variables"])
    dtypes = {name: graph.dtype(Port(name, 0)) for name in document["constants"]}
    values = zip(document["constants"], constants, strict=True)
    return with_watched_tensors(
        Program(
            graph=graph,
            functions=_functions(document["functions"], graph_def),
            graph_def=graph_def,
            batch_inputs=tuple(document["batch_inputs"]),
            captures=document["captures"],
            constants={name: tf.io.parse_tensor(value, dtypes[name]) for name, value in values},
            variables=specs,
            keras_variables=(),
            layers=tuple(document["layers"]),
            results=tuple(map(_port, results_of(document))),
            layer_outputs={name: tuple(map(_port, ports)) for name, ports in document["layer_outputs"].items()},
            gradients={name: _port(port) for name, port in document["gradients"].items()},
            without_gradient=tuple(document["without_gradient"]),
            mode=PREDICT if "predictions" in document else TRAIN,
        )
    )


def with_state(program: Program, state: Sequence[Any]) -> Program:
    """The same program with these as its variables' values before the first step, in their order."""
    pairs = zip(program.variables, state, strict=True)
    return replace(program, keras_variables=tuple(RawVariable(spec.name, tf.constant(x)) for spec, x in pairs))


def _graph_document(graph: Graph, with_shapes: bool) -> dict[str, Any]:
    """What the GraphDef does not say: the order of nodes, where each belongs, and the shapes found in tracing."""
    document: dict[str, Any] = {
        "inputs": graph.inputs,
        "outputs": [str(port) for port in graph.outputs],
        "sites": {node.name: _location_document(node.location) for node in graph},
    }
    if with_shapes:
        document["results"] = {
            node.name: [[t.as_datatype_enum, _axes(shape)] for t, shape in zip(node.dtypes, node.shapes, strict=True)]
            for node in graph
        }
    return document


def _location_document(location: Location) -> list[Any]:
    return [location.phase, location.layer, location.variable, location.index]


def _axes(shape: tf.TensorShape) -> list[int | None] | None:
    return None if shape.rank is None else shape.as_list()


def _graph(document: dict[str, Any], protos: dict[str, Any]) -> Graph:
    nodes = []
    for name, location in document["sites"].items():
        proto = protos[name]
        parsed = [parse_input(text) for text in proto.input]
        results = document["results"][name]
        nodes.append(
            Node(
                name=name,
                op=proto.op,
                inputs=tuple(Port(source, index) for source, index in parsed if index is not None),
                control=tuple(source for source, index in parsed if index is None),
                proto=proto,
                dtypes=tuple(tf.as_dtype(dtype) for dtype, _ in results),
                shapes=tuple(tf.TensorShape(axes) for _, axes in results),
                location=Location(*location),
            )
        )
    return Graph(tuple(nodes), tuple(document["inputs"]), tuple(map(_port, document["outputs"])))


def _functions(documents: dict[str, Any], graph_def: Any) -> dict[str, Graph]:
    """The library's functions as graphs; TensorFlow has to know every op in them."""
    if not documents:
        return {}
    library = tf.compat.v1.GraphDef(versions=graph_def.versions, library=graph_def.library)
    with tf.Graph().as_default() as outer:
        try:
            tf.graph_util.import_graph_def(library, name="")
            bodies = {f.signature.name: body_graph(f, outer) for f in graph_def.library.function}
        except (ValueError, tf.errors.OpError) as error:
            raise UserError(
                f"The stored training step does not load in TensorFlow {tf.__version__}: {first_line(error)}; "
                "replay it with the TensorFlow that recorded it."
            ) from error
    for name, document in documents.items():
        if {node.name for node in bodies[name]} != document["sites"].keys():
            raise Damaged(f"function {name} has other nodes than were recorded")
    return {
        name: bodies[name].with_locations({node: Location(*location) for node, location in document["sites"].items()})
        for name, document in documents.items()
    }


def _port(text: str) -> Port:
    node, _, index = text.rpartition(":")
    return Port(node, int(index))
