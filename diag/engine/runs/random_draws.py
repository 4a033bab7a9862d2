"""Random streams: another valid one is a fact to report, a broken one is a fault."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from diag.common.carried import Carried
from diag.engine.graphs.graph import Node
from diag.engine.truth.naming import where_of_op
from diag.verdict.findings import Cause, Divergence

# What TensorFlow's random ops draw from, by a part of their names, the first that fits: a distribution of scipy.stats
# with its parameters.  Importing that takes longer than a step of a small model, so it waits for a stream to judge.
LAWS: tuple[tuple[str, str, tuple[float, ...]], ...] = (
    ("TruncatedNormal", "truncnorm", (-2, 2)),
    ("Normal", "norm", ()),
    ("Uniform", "uniform", ()),
)
OTHER_LAWS = ("Int", "Parameterized")  # these take the bounds of what they draw as inputs
# Kolmogorov-Smirnov: draws this unlikely to be of the law of their op are not another stream but no stream.
NO_STREAM = 1e-12


class RandomStreams(Carried):
    """What the candidate's random ops drew, step after step."""

    CARRIED = ("are_shared", "notes", "_last")

    def __init__(self) -> None:
        self.are_shared = False
        self.notes: list[str] = []
        self._last: dict[str, Any] = {}

    def remember(self, node: Node, drawn: Any) -> None:
        self._last[node.name] = drawn

    def judge(self, step: int, draws: Sequence[tuple[Node, Any]]) -> list[Divergence]:
        """Draws of the candidate that differ from the reference's, each with its op.

        A stream that repeats its last step's draws while the reference's moves on, or whose draws are not of the
        distribution that the op promises, is a divergence.  Any other is another valid stream: noted, and shared
        from then on so that the lockstep sees what lies behind it.
        """
        result, others = [], []
        for node, drawn in draws:
            last = self._last.get(node.name)
            if last is not None and last.shape == drawn.shape and np.array_equal(last, drawn):
                result.append(self._divergence(step, node, frozen=True, same_as_step=step - 1))
            elif self._is_no_stream(node, drawn):
                result.append(self._divergence(step, node, frozen=False, other_distribution=True))
            else:
                others.append(node)
            self._last[node.name] = drawn
        if others:
            layers = sorted({node.location.layer or "" for node in others})
            self.notes.append(
                f"the candidate draws other random numbers than the reference in {', '.join(layers)} from step {step}: "
                "another valid stream (random-stream), no fault of a kernel; both places use the reference's draws "
                "from here on"
            )
        self.are_shared = True
        return result

    @staticmethod
    def _is_no_stream(node: Node, drawn: Any) -> bool:
        law = law_of(node.op)
        if law is None or drawn.size < 100:
            return False
        from scipy import stats

        return bool(stats.kstest(drawn.reshape(-1)[: 1 << 16].astype(np.float64), law.cdf).pvalue < NO_STREAM)

    @staticmethod
    def _divergence(step: int, node: Node, **facts: Any) -> Divergence:
        cause = Cause("random-stream", facts=facts)
        return Divergence.of(where_of_op(step, node, 0), cause, "random-stream", float("inf"))


def law_of(op: str) -> Any:
    """The distribution that a random op of this type draws from, a frozen one of SciPy's; None where it has no one."""
    if any(part in op for part in OTHER_LAWS):
        return None
    from scipy import stats

    return next((getattr(stats, name)(*given) for part, name, given in LAWS if part in op), None)
