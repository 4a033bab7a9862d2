"""Whether draws can have come from a distribution: everything to six standard deviations, and never a wrong value.

Six standard deviations of a normal deviate are p = 2e-9: of the some hundred checks of a card one goes wrong by
chance in five million cards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy import stats

Draws: TypeAlias = npt.NDArray[Any]
SIGMAS = 6.0
UNLIKELY = 2 * stats.norm.sf(SIGMAS)
Figures: TypeAlias = dict[str, "float | int"]


@dataclass(frozen=True)
class Finding:
    """wrong: what cannot be, in words, none where all is well."""

    wrong: tuple[str, ...] = ()
    figures: Mapping[str, float | int] = field(default_factory=dict)


Check: TypeAlias = Callable[[Draws], Finding]


def continuous(law: Any, low: float, high: float, open_above: bool = False, grid: float = 0.0) -> Check:
    """A check of draws from a law of scipy.stats within [low, high], or [low, high).

    grid: what the dtype's spacing may move an element, and so the mean, and a share of the elements below a point.
    """

    def check(draws: Draws) -> Finding:
        x = np.sort(draws.astype(np.float64).ravel())
        if not np.all(np.isfinite(x)):
            return Finding((f"{int((~np.isfinite(x)).sum()):,} draws are not finite",))
        wrong = []
        outside = int((x < low).sum() + ((x >= high) if open_above else (x > high)).sum())
        if outside:
            worst = x[-1] if x[-1] >= high else x[0]
            wrong.append(
                f"{outside:,} draws outside [{low:g}, {high:g}{')' if open_above else ']'}, such as {worst:.9g}"
            )
        mean, variance, kurtosis = (float(value) for value in law.stats("mvk"))
        num = x.size
        of_mean = _beyond(x.mean() - mean, grid) / math.sqrt(variance / num)
        of_variance = _beyond(x.var() - variance, 2 * grid) / (variance * math.sqrt((kurtosis + 2) / num))
        below = law.cdf(x)
        steps = np.arange(num) / num
        distance = max(0.0, float(np.max(np.maximum(below - steps, steps + 1 / num - below))) - grid)
        likelihood = float(stats.kstwo.sf(distance, num))
        for name, sigmas in (("mean", of_mean), ("variance", of_variance)):
            if abs(sigmas) > SIGMAS:
                wrong.append(f"the {name} is {abs(sigmas):.3g} standard deviations off")
        if likelihood < UNLIKELY:
            wrong.append(f"the largest distance from the distribution is {distance:.3g} (p = {likelihood:.1g})")
        figures: Figures = {
            "num_draws": num, "smallest": float(x[0]), "largest": float(x[-1]), "mean_sigmas": of_mean,
            "variance_sigmas": of_variance, "ks_p": likelihood,
        }  # fmt: skip
        return Finding(tuple(wrong), figures)

    return check


def _beyond(difference: float, allowed: float) -> float:
    return math.copysign(max(0.0, abs(difference) - allowed), difference)


def uniform(grid: float = 0.0) -> Check:
    """[0, 1): 1 itself is never drawn."""
    return continuous(stats.uniform(), 0.0, 1.0, open_above=True, grid=grid)


def normal(grid: float = 0.0) -> Check:
    """As `continuous`; the tails beyond 4 are counted too, where sums of few uniforms or a short table would end.

    In a narrow dtype they may be one cell of its grid: XLA makes its float16 deviates of uniform ones in float16.
    """
    plain = continuous(stats.norm(), -math.inf, math.inf, grid=grid)

    def check(draws: Draws) -> Finding:
        found = plain(draws)
        num = int((np.abs(draws.astype(np.float64)) > 4).sum())
        expected = float(draws.size * 2 * stats.norm.sf(4))
        fits = _count_fits(num, expected) or expected < num <= _most(expected + grid * draws.size)
        wrong = [] if fits else [f"{num} draws beyond 4, where {expected:.1f} are expected"]
        return Finding((*found.wrong, *wrong), {**found.figures, "num_beyond_4": num})

    return check


def truncated_normal(grid: float = 0.0) -> Check:
    return continuous(stats.truncnorm(-2, 2), -2.0, 2.0, grid=grid)


def discrete(first: int, probabilities: npt.ArrayLike, endless: bool = False) -> Check:
    """A check of integers: first has the first probability, and so on.  endless: the last is of all beyond it."""
    expected = np.asarray(probabilities, np.float64)

    def check(draws: Draws) -> Finding:
        values = draws.astype(np.int64).ravel() - first
        wrong = []
        if not np.array_equal(values + first, draws.ravel()):
            wrong.append("draws that are no integers")
        if endless:
            values = np.minimum(values, expected.size - 1)
        outside = (values < 0) | (values >= expected.size)
        if outside.any():
            wrong.append(f"{int(outside.sum()):,} draws outside {first} to {first + expected.size - 1}, "
                         f"such as {int(values[outside][0]) + first}")  # fmt: skip
        counts = np.bincount(values[~outside], minlength=expected.size)
        likely = expected * values.size >= 5  # below that chi-square is no approximation
        statistic = float(np.sum((counts - expected * values.size)[likely] ** 2 / (expected * values.size)[likely]))
        likelihood = float(stats.chi2.sf(statistic, int(likely.sum()) - 1))
        if likelihood < UNLIKELY:
            wrong.append(f"the shares of the values are off (chi-square {statistic:.4g}, p = {likelihood:.1g})")
        return Finding(tuple(wrong), {"num_draws": values.size, "chi2_p": likelihood})

    return check


def dropout(rate: float) -> Check:
    """Of ones: what is kept is 1 / (1 - rate), rounded, and the share that is dropped is the rate."""

    def check(draws: Draws) -> Finding:
        x = draws.ravel()
        kept = x[x != 0].astype(np.float64)
        eps = float(np.spacing(np.asarray(1 / (1 - rate), x.dtype)))
        wrong = []
        if np.any(np.abs(kept - 1 / (1 - rate)) > eps):
            wrong.append(f"a kept 1 is {kept[np.argmax(np.abs(kept - 1 / (1 - rate)))]:.6g}, not {1 / (1 - rate):.6g}")
        sigmas = (x.size - kept.size - rate * x.size) / math.sqrt(x.size * rate * (1 - rate))
        if abs(sigmas) > SIGMAS:
            wrong.append(f"{1 - kept.size / x.size:.4f} is dropped, {abs(sigmas):.3g} standard deviations from {rate}")
        return Finding(tuple(wrong), {"num_draws": x.size, "dropped_sigmas": sigmas})

    return check


def permutation(draws: Draws) -> Finding:
    """Of 0, 1, 2...: each of them once, and few where they were (their number is Poisson's, of mean 1)."""
    num_kept = int((draws == np.arange(draws.size)).sum())
    wrong = []
    if not np.array_equal(np.sort(draws), np.arange(draws.size)):
        wrong.append(f"no permutation: {draws.size - np.unique(draws).size:,} of {draws.size:,} elements are lost")
    elif stats.poisson.sf(num_kept - 1, 1.0) < UNLIKELY:
        wrong.append(f"{num_kept:,} of {draws.size:,} elements stayed in their places")
    return Finding(tuple(wrong), {"num_draws": draws.size, "num_in_place": num_kept})


def full_integers(draws: Draws) -> Finding:
    """All 2^32 integers alike: bits are balanced, equal pairs are as many as birthdays, no 128 bits come twice."""
    words = np.ascontiguousarray(draws.ravel()).view(np.uint32)
    num = words.size
    in_order = np.sort(words)
    num_pairs = int((in_order[1:] == in_order[:-1]).sum())
    expected = num * (num - 1) / 2 / 2.0**32
    blocks = words[: num // 4 * 4].reshape(-1, 4)
    num_blocks = int(blocks.shape[0] - np.unique(blocks, axis=0).shape[0])
    ones = np.unpackbits(words.view(np.uint8)).reshape(num, 32).mean(axis=0)
    sigmas = float(np.max(np.abs(ones - 0.5))) * 2 * math.sqrt(num)
    wrong = []
    if not _count_fits(num_pairs, expected):
        wrong.append(f"{num_pairs:,} draws come twice, where {expected:.0f} are expected")
    if num_blocks:
        wrong.append(f"{num_blocks:,} blocks of 128 bits come twice")
    if sigmas > SIGMAS + 1:  # the largest of 32
        wrong.append(f"a bit is set {sigmas:.3g} standard deviations too often or too rarely")
    return Finding(tuple(wrong), {"num_draws": num, "num_equal_pairs": num_pairs, "num_equal_blocks": num_blocks,
                                  "bit_sigmas": sigmas})  # fmt: skip


def without_period(draws: Draws) -> Finding:
    """No lag at which draws are correlated, as they are where threads draw the same, or a counter wraps."""
    x = draws.astype(np.float64).ravel()
    x = x - x.mean()
    spectrum = np.abs(np.fft.rfft(x, 2 * x.size)) ** 2
    correlation = np.fft.irfft(spectrum)[1 : x.size // 2] / float(x @ x)
    lags = np.arange(1, x.size // 2)
    sigmas = np.abs(correlation) * x.size / np.sqrt(x.size - lags)
    worst = int(np.argmax(sigmas))
    limit = float(stats.norm.isf(UNLIKELY / 2 / lags.size))
    wrong = [f"draws {lags[worst]:,} apart are correlated ({correlation[worst]:.3g})"] if sigmas[worst] > limit else []
    return Finding(tuple(wrong), {"lag_sigmas": float(sigmas[worst])})


def _count_fits(num: int, expected: float) -> bool:
    """Whether a rare thing happens as often as Poisson's law allows."""
    return min(stats.poisson.sf(num - 1, expected), stats.poisson.cdf(num, expected)) > UNLIKELY / 2


def _most(expected: float) -> float:
    return float(stats.poisson.isf(UNLIKELY / 2, expected))


def together(*checks: Check) -> Check:
    def check(draws: Draws) -> Finding:
        found = [each(draws) for each in checks]
        figures: dict[str, float | int] = {}
        for each in found:
            figures |= each.figures
        return Finding(tuple(text for each in found for text in each.wrong), figures)

    return check
