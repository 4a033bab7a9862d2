"""Random streams: another valid one is a fact to report, a broken one is a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from diag.engine.graph import Node
from diag.verdict.findings import Divergence, Where

# Kolmogorov-Smirnov: draws this unlikely to be uniform are not another stream but no stream.
NO_STREAM = 1e-12


class RandomStreams:
    """What the candidate's random ops drew, step after step."""

    def __init__(self) -> None:
        self.are_shared = False
        self.notes: list[str] = []
        self._last: dict[str, Any] = {}

    def remember(self, node: Node, drawn: Any) -> None:
        self._last[node.name] = drawn

    def judge(self, step: int, draws: Sequence[tuple[Node, Any]]) -> list[Divergence]:
        """Draws of the candidate that differ from the reference's, each with its op.

        A stream that repeats its last step's draws while the reference's moves on, or whose draws
        are not uniform, is a divergence.  Any other is another valid stream: noted, and shared from
        then on so that the lockstep sees what lies behind it.
        """
        found, others = [], []
        for node, theirs in draws:
            last = self._last.get(node.name)
            if last is not None and last.shape == theirs.shape and np.array_equal(last, theirs):
                found.append(self._divergence(step, node, {"frozen": True, "same_as_step": step - 1}))
            elif self._is_no_stream(node, theirs):
                found.append(self._divergence(step, node, {"frozen": False, "not_uniform": True}))
            else:
                others.append(node)
            self._last[node.name] = theirs
        if others:
            layers = sorted({node.site.layer or "" for node in others})
            self.notes.append(
                f"the candidate draws other random numbers than the reference in {', '.join(layers)} from step {step}: "
                "another valid stream (random-stream), no fault of a kernel; both lanes use the reference's draws "
                "from here on"
            )
        self.are_shared = True
        return found

    @staticmethod
    def _is_no_stream(node: Node, drawn: Any) -> bool:
        if "Uniform" not in node.op or "Int" in node.op or drawn.size < 100:
            return False
        return bool(stats.kstest(drawn.reshape(-1)[: 1 << 16].astype(np.float64), "uniform").pvalue < NO_STREAM)

    @staticmethod
    def _divergence(step: int, node: Node, evidence: dict[str, Any]) -> Divergence:
        site = node.site
        where = Where(
            step, site.phase, "op", site.layer, site.variable, node.op, site.index, 0, node.name.split("/")[-1],
            site.index or 0,
        )  # fmt: skip
        return Divergence(where, "random-stream", "random-stream", float("inf"), (), evidence)
