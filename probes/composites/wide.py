"""A probed function in float64 on the CPU: its truth, and how far one rounding of each op moves it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Graph, graph_from_def
from diag.engine.graphs.tf_runtime import FLOATS, to_numpy
from diag.engine.lanes.compiled import build
from diag.engine.truth.float64_graph import Promotion
from diag.engine.truth.noise import Noise
from diag.engine.truth.op_truth import CPU, widened
from diag.numerics.formats import format_of
from probes.frame.device import Computation

Arrays = list[npt.NDArray[np.float64]]
NUM_NOISY = 8


class Wide:
    """The graph that a place computes, with every tensor in float64.

    Constants are those of the graph, rounded to its own format: what a formula's 0.7978846 loses in float16 is the
    formula's.  noisy_inputs: inputs are moved by one rounding as well, as where the result is a sum of them.
    `unpromoted`: ops that have no float64 kernel; what they compute is no truth.
    """

    def __init__(self, computation: Computation, arrays: Sequence[np.ndarray], noisy_inputs: bool) -> None:
        self._executable = computation.executable(*arrays)
        self._noisy_inputs = noisy_inputs
        self._arrays = [widened(tf.constant(array)) for array in arrays]
        dtypes = {dtype for node in self._executable.graph for dtype in node.dtypes if dtype in FLOATS}
        self.unit_roundoff = max(format_of(dtype.as_numpy_dtype).unit_roundoff for dtype in dtypes)
        self.unpromoted: frozenset[str] = frozenset()

    def truth(self) -> Arrays:
        return [to_numpy(each).astype(np.float64) for each in self._build()(*self._arrays)]

    def noisy(self) -> list[Arrays]:
        """Results of runs in which each op's result is off by a random part of one rounding."""
        run = self._build(Noise.ROUNDING)
        return [[to_numpy(each).astype(np.float64) for each in run(*self._arrays)] for _ in range(NUM_NOISY)]

    def _build(self, noise: Noise | None = None) -> Callable[..., list[Any]]:
        executable = self._executable
        still = [*_constant(executable.graph), *(() if self._noisy_inputs else executable.feeds)]
        promotion = Promotion(executable.graph, executable.functions, noise, still=still)
        graph_def = promotion.apply(executable.graph_def)
        self.unpromoted = frozenset(promotion.unpromoted)
        fetches = tuple(promotion.wide_port(port) for port in executable.fetches)
        graph = graph_from_def(graph_def, executable.feeds, fetches)
        constants = {k: widened(x) if x.dtype in FLOATS else x for k, x in executable.constants.items()}
        promoted = Executable(graph, {}, graph_def, executable.feeds, {}, constants, fetches)
        return build(promoted, CPU, None, ())


def _constant(graph: Graph) -> list[str]:
    """Nodes made of constants alone: 3 - 1 is 2 in every format, and a power of just not 2 has no negative base."""
    constant: set[str] = set()
    for node in graph:
        if node.op == "Const" or (node.inputs and all(port.node in constant for port in node.inputs)):
            constant.add(node.name)
    return sorted(constant)
