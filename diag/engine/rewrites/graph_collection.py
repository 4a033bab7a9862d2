"""The graphs that TensorFlow really executes: the one adapter to its collection of optimized graphs.

TensorFlow hands a function's graph to grappler, then to its passes over whole graphs (placement; on x86 oneDNN's
kernels), cuts it by device, and executes the parts.  Its own tests look at the result through the eager context.

Private names used: `eager.context`: `enable_graph_collection`, `disable_graph_collection`, `export_run_metadata`.
tests/engine/test_canary.py fails when one of them changes its meaning.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tensorflow.python.eager import context


@dataclass(frozen=True)
class CollectedGraph:
    """One function: `before` as it was traced, `parts` what is executed, a GraphDef a device."""

    before: Any
    parts: tuple[Any, ...]


@contextmanager
def collected_graphs() -> Iterator[list[CollectedGraph]]:
    """The graphs of all functions that are called here for the first time; filled when the context ends."""
    found: list[CollectedGraph] = []
    current = context.context()
    current.enable_graph_collection()
    try:
        yield found
        metadata = current.export_run_metadata()
    finally:
        current.disable_graph_collection()
    for graph in metadata.function_graphs:
        found.append(CollectedGraph(graph.pre_optimization_graph, tuple(graph.partition_graphs)))
