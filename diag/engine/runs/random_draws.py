"""Random streams: another valid one is a fact to report, one that is none is a fault.

A device may have a generator of its own, so draws that are not the reference's are held against what they should be
distributed as, against each other, and against those of earlier steps (docs/VERDICTS.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diag.common.carried import Carried
from diag.engine.graphs.graph import Graph, Node, Port
from diag.engine.step.random_ops import law_of
from diag.engine.truth.naming import where_of_op
from diag.numerics.bits import same_bits
from diag.numerics.random_laws import WINDOW_BITS, RandomLaw, window_of
from diag.numerics.repeats import Repeats, Seen
from diag.numerics.stream_tests import KINDS, PooledDraws, StreamTest, signs_of, tests_of
from diag.verdict.findings import Cause, Divergence

FALSE_ALARMS = 1e-6
"""Of all tests of all streams in a whole run: how often they call a valid generator none."""
# A test that the reference's draws fail as well, to this, is of a law that the op does not have.
REFERENCE_FAILS = 1e-4
# Of integers whose law is not known, so many draws say how often the most frequent comes at most.
ENOUGH = 64


@dataclass(frozen=True)
class Drawn:
    """What a random op drew in both lanes in one step."""

    node: Node
    reference: np.ndarray[Any, Any]
    candidate: np.ndarray[Any, Any]
    law: RandomLaw | None

    @property
    def differs(self) -> bool:
        """Whether the lanes drew other bits."""
        return not same_bits(self.reference, self.candidate)


def drawn_of(graph: Graph, pairs: Sequence[tuple[Port, Any, Any]]) -> list[Drawn]:
    """Of the outputs of random ops, each of the reference and of the candidate, in execution order."""
    nodes = [(graph.by_name[port.node], reference, candidate) for port, reference, candidate in pairs]
    return [Drawn(node, reference, candidate, law_of(graph, node)) for node, reference, candidate in nodes]


@dataclass
class Stream:
    """An op that draws other numbers than the reference's: what both drew since, and how often it was tested.

    order: of how many such ops it is the last.  next_look: the number of draws that are tested again.
    """

    order: int
    first_step: int
    place: dict[str, Any]
    candidate: PooledDraws = field(default_factory=PooledDraws)
    reference: PooledDraws = field(default_factory=PooledDraws)
    looks: int = 0
    next_look: int = 1
    failed: str = ""

    @property
    def level(self) -> float:
        """The largest p-value of a test that is a finding now.

        1/n^2 over all n is pi^2/6: so the false alarms are shared among any number of ops and looks.
        """
        share = 6 / math.pi**2
        return FALSE_ALARMS * share / self.order**2 * share / max(self.looks, 1) ** 2 / KINDS

    def failing(self, law: RandomLaw) -> StreamTest | None:
        """The test that fails, once there are twice the draws of the last time."""
        if self.failed or self.candidate.num < self.next_look:
            return None
        self.looks, self.next_look = self.looks + 1, 2 * self.candidate.num
        worst = min(tests_of(self.candidate, law), key=lambda test: test.p_value)
        if worst.p_value >= self.level:
            return None
        of_reference = {test.name: test.p_value for test in tests_of(self.reference, law)}
        return None if of_reference.get(worst.name, 1.0) < REFERENCE_FAILS else worst


class RandomStreams(Carried):
    """What the candidate's random ops drew, step after step."""

    CARRIED = ("are_shared", "notes", "streams", "_windows", "_of_reference", "_widths", "_repeating", "_signs")

    def __init__(self) -> None:
        self.are_shared = False
        self.notes: list[str] = []
        self.streams: dict[str, Stream] = {}
        self._windows, self._of_reference = Repeats(), Repeats()
        self._widths: dict[str, int] = {}
        self._repeating: set[tuple[str, str]] = set()  # ops of the reference of which one draws what the other drew
        self._signs: dict[str, tuple[Any, Any]] = {}  # of the step before: the reference's, the candidate's

    def judge(self, step: int, draws: Sequence[Drawn]) -> list[Divergence]:
        """The draws of one step, in execution order.

        A stream that repeats draws which the reference does not repeat, or whose draws are not of the law that the op
        promises, is a divergence.  Any other is another valid stream: noted, and shared from then on so that the
        lockstep sees what lies behind it.
        """
        others = [each for each in draws if each.differs]
        for each in others:
            self._take_in(step, each)
        result = [*self._repeated(step, draws), *self._unlikely(step, draws)]
        valid = [each for each in others if not self.streams[each.node.name].failed]
        if valid and not self.are_shared:
            layers = sorted({each.node.location.layer or each.node.op for each in valid})
            self.notes.append(
                f"the candidate draws other random numbers than the reference in {', '.join(layers)} from step {step}: "
                "another valid stream (random-stream), no fault of a kernel; both places use the reference's draws "
                "from here on"
            )
        self.are_shared |= bool(others)
        return result

    def reported(self) -> list[dict[str, Any]]:
        """The streams that are not the reference's, as report.json has them."""
        return [
            {
                **stream.place, "from_step": stream.first_step, "num_draws": stream.candidate.num,
                "looks": stream.looks, "valid": not stream.failed, "failed": stream.failed or None,
            }
            for stream in self.streams.values()
        ]  # fmt: skip

    def _take_in(self, step: int, drawn: Drawn) -> None:
        name, where = drawn.node.name, where_of_op(step, drawn.node, 0)
        place = {"phase": where.phase, "layer": where.layer, "op_type": where.op_type, "op_index": where.op_index}
        self.streams.setdefault(name, Stream(len(self.streams) + 1, step, place))

    # -- draws that come again -----------------------------------------------------------------

    def _repeated(self, step: int, draws: Sequence[Drawn]) -> list[Divergence]:
        """Draws of the candidate that it drew before, or in another op, where the reference does not."""
        found = []
        for drawn in draws:
            name, width = drawn.node.name, self._width_of(drawn)
            if not width:
                continue
            of_reference = self._of_reference.see(Seen(name, step, False), drawn.reference, width)
            self._repeating |= {(earlier.op, name) for earlier in of_reference}
            seen = Seen(name, step, drawn.differs)
            again = [
                earlier for earlier in self._windows.see(seen, drawn.candidate, width)
                if (earlier.op, name) not in self._repeating and (seen.differs or earlier.differs)
            ]  # fmt: skip
            if again and self._fail(seen if seen.differs else again[0], "repeats"):
                found.append(self._of_repeat(drawn, seen, again[0], width, {each.node.name: each for each in draws}))
        return found

    def _width_of(self, drawn: Drawn) -> int:
        """How many consecutive draws chance does not repeat; 0 where that is not known."""
        name, values = drawn.node.name, drawn.reference.reshape(-1)
        if name not in self._widths:
            if drawn.law is not None:
                self._widths[name] = drawn.law.window
            elif values.size >= ENOUGH:
                most = int(np.unique(values, return_counts=True)[1].max())
                atom = (most + 6 * math.sqrt(most) + 6) / values.size
                self._widths[name] = window_of(atom) if atom < 0.9 else 0
        return self._widths.get(name, 0)

    def _of_repeat(self, drawn: Drawn, seen: Seen, earlier: Seen, width: int, nodes: dict[str, Drawn]) -> Divergence:
        """Named is the op that draws other numbers than the reference; the later one where both do."""
        named = drawn.node if seen.differs else nodes.get(earlier.op, drawn).node
        other = earlier if seen.differs else seen
        pairs = max(len(self._windows.windows), 2) ** 2 / 2
        known = nodes.get(other.op)
        whose = "it" if other.op == named.name else (known and known.node.location.layer) or other.op
        facts = {
            "test": "repeats", "statistic": width, "p_value": pairs * 2.0**-WINDOW_BITS, "same_as_step": other.step,
            "same_as_op": other.op, "false_alarm_rate": FALSE_ALARMS,
        }  # fmt: skip
        summary = f"it draws, {width} values and more in a row, what {whose} drew in step {other.step}"
        step = seen.step if seen.differs else earlier.step
        return _divergence(step, named, Cause("random-stream", summary, facts))

    # -- draws of another law ------------------------------------------------------------------

    def _unlikely(self, step: int, draws: Sequence[Drawn]) -> list[Divergence]:
        """Streams whose draws so far, all together, are not of their op's law, or not independent of others."""
        signs = {
            each.node.name: (signs_of(each.law, each.reference), signs_of(each.law, each.candidate)) for each in draws
        }
        found = []
        for position, drawn in enumerate(draws):
            stream, law = self.streams.get(drawn.node.name), drawn.law
            if stream is None or law is None:
                continue
            stream.reference.add(law, drawn.reference)
            stream.candidate.add(law, drawn.candidate)
            others = [each for at, each in enumerate(draws) if at < position or each.node.name not in self.streams]
            compared = {each.node.name: signs[each.node.name] for each in others if each is not drawn}
            if drawn.node.name in self._signs:
                compared["its own of the step before"] = self._signs[drawn.node.name]
            own = signs[drawn.node.name]
            for name, (of_reference, of_candidate) in compared.items():
                stream.reference.compare(name, own[0], of_reference)
                stream.candidate.compare(name, own[1], of_candidate)
            test = stream.failing(law)
            if test is not None and self._fail(Seen(drawn.node.name, step, True), test.name):
                found.append(self._of_test(step, drawn, stream, test))
        self._signs = signs
        return found

    @staticmethod
    def _of_test(step: int, drawn: Drawn, stream: Stream, test: StreamTest) -> Divergence:
        facts = {
            "test": test.name, "statistic": test.statistic, "p_value": test.p_value, "level": stream.level,
            "num_draws": stream.candidate.num, "from_step": stream.first_step, "false_alarm_rate": FALSE_ALARMS,
        }  # fmt: skip
        chance = f"by chance {test.p_value:.1e}" if test.p_value else "which cannot be"
        return _divergence(step, drawn.node, Cause("random-stream", f"{test.about} ({chance})", facts))

    def _fail(self, seen: Seen, test: str) -> bool:
        """Whether this is the first that is wrong with the stream."""
        stream = self.streams.get(seen.op)
        if stream is None or stream.failed:
            return False
        stream.failed = test
        return True


def _divergence(step: int, node: Node, cause: Cause) -> Divergence:
    return Divergence.of(where_of_op(step, node, 0), cause, "random-stream", float("inf"))
