"""Whether what a random op drew, pooled over steps, can be what it should draw: tests with exact p-values.

Shares below quantiles and in cells are binomial; of normal scores the sum is normal and the sum of squares
chi-squared; how often two fair halves agree is binomial, also at a lag (products of independent signs are
independent); how often a value comes again is at most binomial, whatever is drawn first.  No p-value rests on a limit
theorem, so each is right far in its tail.  Where a bound takes the place of a probability the p-value is too large,
never too small.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.random_laws import Floats, RandomLaw

MOST_DRAWS = 1 << 18  # of one step: more say no more of a kind of fault that strikes everywhere
NUM_SIGNS = 1 << 12  # of one draw, to be compared with another's
LAGS = tuple(1 << k for k in range(11))
HALF = "the second half with the first"

Signs = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class StreamTest:
    """p_value: how likely a statistic as extreme is by chance, all that was tried of this kind counted in."""

    name: str
    statistic: float
    p_value: float
    about: str = ""


@dataclass
class PooledDraws:
    """What is kept of all that one op drew: counts and sums, not the draws.

    cells: how many fell between the edges of the law.  agreeing: how often the draws are on the same side of the
    middle as what they are compared with, and of how many, by name.
    """

    num: int = 0
    impossible: int = 0
    cells: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    num_scores: int = 0
    sum_scores: float = 0.0
    sum_squares: float = 0.0
    smallest: float = math.inf
    largest: float = -math.inf
    repeated: int = 0
    repeatable: int = 0  # draws among which a value can come again
    repeat_rate: float = 0.0
    agreeing: dict[str, list[int]] = field(default_factory=dict)

    def add(self, law: RandomLaw, draws: npt.NDArray[Any]) -> None:
        """One more step's; flat, of any dtype."""
        drawn = draws.reshape(-1)[:MOST_DRAWS].astype(np.float64)
        possible = law.is_possible(drawn)
        self.impossible += int(drawn.size - possible.sum())
        self._see_repeats(law, drawn)
        self._see_lags(law, drawn)
        kept = drawn[possible]
        counts = np.bincount(np.searchsorted(law.edges, kept, side="right"), minlength=law.edges.size + 1)
        self.cells = counts if not self.num else self.cells + counts
        self.num += int(drawn.size)
        if law.is_discrete or not kept.size:
            return
        scores = law.normal_scores(kept)
        self.num_scores += int(kept.size)
        self.sum_scores += float(scores.sum())
        self.sum_squares += float(scores @ scores)
        self.smallest, self.largest = min(self.smallest, float(kept.min())), max(self.largest, float(kept.max()))

    def compare(self, name: str, own: Signs | None, other: Signs | None) -> None:
        """Which side of its middle each draw is on, beside those of another draw, in their order."""
        if own is None or other is None:
            return
        num = min(own.size, other.size)
        agreeing = self.agreeing.setdefault(name, [0, 0])
        agreeing[0] += int((own[:num] == other[:num]).sum())
        agreeing[1] += num

    def _see_repeats(self, law: RandomLaw, drawn: Floats) -> None:
        """Only among so many that chance repeats few: a draw is one of the earlier with probability n atom at most."""
        few = drawn[: max(1, int(0.01 / law.atom))]
        if few.size > 1:
            self.repeated += int(few.size - np.unique(few).size)
            self.repeatable += int(few.size)
            self.repeat_rate = max(self.repeat_rate, few.size * law.atom)

    def _see_lags(self, law: RandomLaw, drawn: Floats) -> None:
        signs = signs_of(law, drawn, MOST_DRAWS)
        if signs is None:
            return
        for lag in LAGS:
            self.compare(f"those {lag} before", signs[lag:], signs[:-lag])
        self.compare(HALF, signs[signs.size // 2 :], signs[: signs.size // 2])


def signs_of(law: RandomLaw | None, draws: npt.NDArray[Any], most: int = NUM_SIGNS) -> Signs | None:
    """Which of the first draws are below the middle; None where the law has none."""
    if law is None or law.middle is None:
        return None
    return np.asarray(draws.reshape(-1)[:most].astype(np.float64) < law.middle)


def tests_of(pooled: PooledDraws, law: RandomLaw) -> Iterator[StreamTest]:
    """One test of each kind: the least likely of its statistics."""
    if not pooled.num:
        return
    yield StreamTest("range", pooled.impossible, 0.0 if pooled.impossible else 1.0, "draws that the law cannot give")
    yield _shares(pooled, law)
    yield _repeated(pooled)
    if pooled.num_scores:
        yield _moments(pooled, law)
        yield _extremes(pooled, law)
    own, others = _agreements(pooled)
    yield own
    yield others


KINDS = 7
"""How many tests there are in `tests_of`."""


def _shares(pooled: PooledDraws, law: RandomLaw) -> StreamTest:
    """Of draws below each edge, and in each cell."""
    num, slack = int(pooled.cells.sum()), law.resolution + law.at_zero
    below, cells = law.below, np.diff(law.below, prepend=0.0, append=1.0)
    expected = np.concatenate([below, cells])
    counts = np.concatenate([np.cumsum(pooled.cells)[:-1], pooled.cells])
    p_values = _two_sided(counts, num, expected, np.full(expected.size, slack))
    worst = int(np.argmin(p_values))
    share = float(counts[worst] / max(num, 1))
    what = f"below {law.edges[worst]:.4g}" if worst < below.size else f"in cell {worst - below.size} of {cells.size}"
    return StreamTest(
        "shares", share, _all(p_values), f"the share {what} is {share:.4g}, expected {expected[worst]:.4g}"
    )


def _moments(pooled: PooledDraws, law: RandomLaw) -> StreamTest:
    from scipy import stats

    num, slack = pooled.num_scores, 16 * (law.resolution + law.at_zero)
    mean, square = pooled.sum_scores / num, pooled.sum_squares / num
    of_mean = 2 * float(stats.norm.sf(max(0.0, abs(mean) - slack) * math.sqrt(num)))
    least, most = num * max(0.0, square - slack), num * (square + slack)
    of_square = 2 * min(float(stats.chi2.cdf(most, num)), float(stats.chi2.sf(least, num)))
    if of_mean < of_square:
        return StreamTest("moments", mean, min(1.0, 2 * of_mean), f"the mean of the normal scores is {mean:.4g}, not 0")
    return StreamTest("moments", square, min(1.0, 2 * of_square), f"their mean square is {square:.4g}, not 1")


def _extremes(pooled: PooledDraws, law: RandomLaw) -> StreamTest:
    """The largest of n draws stays below a point with probability F^n."""
    num = pooled.num_scores

    def stays(share: float) -> float:
        return math.exp(num * math.log1p(-max(0.0, share - law.resolution - law.at_zero)))

    above, below = float(law.distribution.sf(pooled.largest)), float(law.distribution.cdf(pooled.smallest))
    p_value, value, name = min((stays(above), pooled.largest, "largest"), (stays(below), pooled.smallest, "smallest"))
    return StreamTest("extremes", value, min(1.0, 2 * p_value), f"the {name} of {num:,} draws is {value:.4g}")


def _repeated(pooled: PooledDraws) -> StreamTest:
    from scipy import stats

    p_value = float(stats.binom.sf(pooled.repeated - 1, pooled.repeatable, pooled.repeat_rate))
    about = f"{pooled.repeated:,} of {pooled.repeatable:,} draws have a value that was drawn before in the same step"
    return StreamTest("repeated-values", pooled.repeated, p_value, about)


def _agreements(pooled: PooledDraws) -> tuple[StreamTest, StreamTest]:
    """With the draw's own earlier elements, and with other draws."""

    def worst(names: list[str], kind: str) -> StreamTest:
        if not names:
            return StreamTest(kind, 0.5, 1.0)
        counts, nums = np.array([pooled.agreeing[name] for name in names]).T
        p_values = _two_sided(counts, nums, np.full(len(names), 0.5), np.zeros(len(names)))
        at = int(np.argmin(p_values))
        share = float(counts[at] / max(nums[at], 1))
        about = f"{share:.4g} are on the same side of the middle as {names[at]}, expected 0.5"
        return StreamTest(kind, share, _all(p_values), about)

    within = [name for name in pooled.agreeing if name == HALF or name.endswith(" before")]
    across = [name for name in pooled.agreeing if name not in within]
    return worst(within, "serial"), worst(across, "other-draws")


def _two_sided(counts: Any, num: Any, shares: Floats, slack: Floats) -> Floats:
    """Of binomial counts, where each share may be off by the slack."""
    from scipy import stats

    most, least = np.minimum(shares + slack, 1.0), np.maximum(shares - slack, 0.0)
    return np.asarray(2 * np.minimum(stats.binom.sf(counts - 1, num, most), stats.binom.cdf(counts, num, least)))


def _all(p_values: Floats) -> float:
    """Bonferroni: the least of so many."""
    return min(1.0, float(np.min(p_values)) * p_values.size)
