"""What is to run: a graph, its feeds, variables and fetches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from diag.engine.graphs.editing import make_node, outputs_of
from diag.engine.graphs.graph import Graph, Node, Port

FETCH_PREFIX = "fetch/"


@dataclass(frozen=True)
class Executable:
    """What is to run: a graph, its feeds, the variables it captures, and what to fetch.

    `feeds` are the placeholders given at each call, in order; `captures` map a placeholder to
    the index of a variable.  Everything that writes a variable runs, fetched or not.
    """

    graph: Graph
    functions: dict[str, Graph]
    graph_def: Any
    feeds: tuple[str, ...]
    captures: Mapping[str, int]
    constants: Mapping[str, Any]
    fetches: tuple[Port, ...]


def ends_of(graph_def: Any, feeds: Iterable[str], fetches: Iterable[Port]) -> Graph:
    """Records of what is fed and what is fetched alone, with dtypes but no shapes: enough to run a GraphDef."""
    wanted = {*feeds, *(port.node for port in fetches)}
    nodes = []
    for proto in graph_def.node:
        if proto.name in wanted:
            dtypes = tuple(tf.dtypes.as_dtype(enum) for _, enum in outputs_of(proto))
            nodes.append(Node(proto.name, proto.op, (), (), proto, dtypes, (tf.TensorShape(None),) * len(dtypes)))
    return Graph(tuple(nodes), tuple(feeds), tuple(fetches))


def with_fetches(executable: Executable) -> Any:
    """The GraphDef with an Identity named `fetch/K` reading each fetched tensor."""
    graph_def = type(executable.graph_def)()
    graph_def.CopyFrom(executable.graph_def)
    graph_def.node.extend(
        make_node(f"{FETCH_PREFIX}{index}", "Identity", [str(port)], T=executable.graph.dtype(port))
        for index, port in enumerate(executable.fetches)
    )
    return graph_def
