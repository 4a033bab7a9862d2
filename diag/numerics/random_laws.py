"""What the draws of a random op are distributed as, by its type, dtype and parameters.  No TensorFlow.

SciPy's distributions take longer to import than a step of a small model takes, so they wait for draws to judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

WINDOW_BITS = 128
"""Consecutive draws that chance repeats once in 2^128 pairs: of the 2^67 pairs in 10^10 draws, once in 10^18 runs."""

# Of what draws of a dtype are made: how likely one value is at most (uniform float32 numbers have 23 random bits,
# float16 10 and bfloat16 7, TensorFlow's random_distributions.h; of normal ones two bits less, for both zeros and for
# sines near 1), and how much of the probability rounding may move past a quantile (XLA makes narrow deviates of narrow
# uniform numbers).  A float64 may be made of 32 random bits.
_ATOM = {"float64": 2.0**-21, "float32": 2.0**-21, "float16": 2.0**-9, "bfloat16": 2.0**-6}
_RESOLUTION = {"float64": 2.0**-22, "float32": 2.0**-22, "float16": 2.0**-9, "bfloat16": 2.0**-6}
# Within how much of its edge a value may be rounded past it.
_EDGE = {"float64": 2.0**-20, "float32": 2.0**-20, "float16": 2.0**-8, "bfloat16": 2.0**-6}

_TAIL = 2.0 ** -np.arange(16, 8, -1)
LEVELS: Floats = np.concatenate([_TAIL, np.arange(1, 256) / 256, 1 - _TAIL[::-1]])
"""Probabilities whose quantiles part the line: 256 equal cells, and tails down to 2^-16."""


@dataclass(frozen=True)
class RandomLaw:
    """A distribution of scipy.stats, by its name and arguments.

    low, high: what can be drawn.  rarity: the probability of one value is at most this, or the law's own.  resolution:
    what rounding of the draws may move the probability below a point.
    """

    family: str
    arguments: tuple[float, ...]
    low: float
    high: float
    rarity: float = 0.0
    resolution: float = 0.0
    is_discrete: bool = False

    @cached_property
    def distribution(self) -> Any:
        """Frozen, of scipy.stats."""
        from scipy import stats

        return getattr(stats, self.family)(*self.arguments)

    @cached_property
    def at_zero(self) -> float:
        """The probability of a draw so small that its format has 0 for it, as of gamma's with a small parameter."""
        return float(self.distribution.cdf(1.2e-38)) if self.family == "gamma" else 0.0

    @cached_property
    def atom(self) -> float:
        """The probability of one value is at most this."""
        if self.rarity:
            return max(self.rarity, self.at_zero)
        around = np.floor(self.distribution.mean()) + np.arange(-1, 3)  # the most likely count is next to the mean
        return float(np.max(self.distribution.pmf(around)))

    @cached_property
    def edges(self) -> Floats:
        """The points that part its draws into cells, ascending."""
        quantiles = np.asarray(self.distribution.ppf(LEVELS), np.float64)
        return np.unique([quantiles, quantiles + 1] if self.is_discrete else quantiles)

    @cached_property
    def below(self) -> Floats:
        """The probability of a draw below each edge."""
        if self.is_discrete:
            return np.asarray(self.distribution.cdf(self.edges - 1), np.float64)
        return np.asarray(self.distribution.cdf(self.edges), np.float64)

    @cached_property
    def middle(self) -> float | None:
        """Half of the draws are below it; None where no point parts them evenly."""
        even = np.flatnonzero(np.abs(self.below - 0.5) < 2.0**-40)
        return float(self.edges[even[0]]) if even.size else None

    @property
    def window(self) -> int:
        return window_of(self.atom)

    def is_possible(self, draws: Floats) -> npt.NDArray[np.bool_]:
        """Which draws are finite and in the range of the law."""
        return np.isfinite(draws) & (draws >= self.low) & (draws <= self.high)

    def normal_scores(self, draws: Floats) -> Floats:
        """The draws as standard normal deviates of the same probability."""
        from scipy import special

        if self.family == "norm":
            return draws
        shares = np.asarray(self.distribution.cdf(draws), np.float64)
        least = 2.0**-24  # in the middle of the lowest cell
        return np.asarray(special.ndtri(np.clip(shares + least * (shares < 0.5), least, 1 - least)), np.float64)


def window_of(atom: float) -> int:
    """How many draws have WINDOW_BITS, where no value has more than this probability."""
    return math.ceil(WINDOW_BITS / -math.log2(atom))


def law_of_op(op_type: str, dtype: str, parameters: Mapping[str, npt.NDArray[Any]]) -> RandomLaw | None:
    """None where the op draws from no one law that is known.

    parameters: inputs of the op that are constants, by the names of its arguments.
    """
    values = {name: float(value.flat[0]) for name, value in parameters.items() if value.size and np.ptp(value) == 0}
    make = next((make for part, make in _LAWS if part in op_type), None)
    return None if make is None else make(dtype, values)


Parameters: TypeAlias = Mapping[str, float]


def _uniform(dtype: str, values: Parameters) -> RandomLaw | None:
    """[0, 1): a narrow format may round up to 1."""
    largest = float(np.nextafter(1.0, 0.0)) if dtype in ("float32", "float64") else 1.0
    return _continuous("uniform", (), dtype, 0.0, largest)


def _normal(dtype: str, values: Parameters) -> RandomLaw | None:
    return _continuous("norm", (), dtype, -math.inf, math.inf)


def _truncated(dtype: str, values: Parameters) -> RandomLaw | None:
    edge = 2 * (1 + _EDGE[dtype])
    return _continuous("truncnorm", (-2, 2), dtype, -edge, edge)


def _gamma(dtype: str, values: Parameters) -> RandomLaw | None:
    shape = values.get("alpha", 0.0)
    return _continuous("gamma", (shape,), dtype, 0.0, math.inf) if shape > 0 else None


def _all_integers(dtype: str, values: Parameters) -> RandomLaw | None:
    info = np.iinfo(np.dtype(dtype))
    return _integers(int(info.min), int(info.max) + 1)


def _some_integers(dtype: str, values: Parameters) -> RandomLaw | None:
    low, high = values.get("minval", 0.0), values.get("maxval", 0.0)
    return _integers(int(low), int(high)) if high - low > 1 else None


def _poisson(dtype: str, values: Parameters) -> RandomLaw | None:
    rate = values.get("lam", values.get("rate", 0.0))
    return _counts("poisson", (rate,), math.inf) if rate > 0 else None


def _binomial(dtype: str, values: Parameters) -> RandomLaw | None:
    trials, share = values.get("counts", 0.0), values.get("probs", 0.0)
    return _counts("binom", (trials, share), trials) if trials >= 1 and 0 < share < 1 else None


# By a part of an op's name, the first that fits.
_LAWS = (
    ("Parameterized", lambda dtype, values: None), ("UniformFullInt", _all_integers), ("UniformInt", _some_integers),
    ("TruncatedNormal", _truncated), ("Normal", _normal), ("Uniform", _uniform), ("Gamma", _gamma),
    ("Poisson", _poisson), ("Binomial", _binomial),
)  # fmt: skip


@cache
def _continuous(family: str, arguments: tuple[float, ...], dtype: str, low: float, high: float) -> RandomLaw:
    return RandomLaw(family, arguments, low, high, _ATOM[dtype], _RESOLUTION[dtype])


@cache
def _integers(low: int, high: int) -> RandomLaw:
    """Each integer from low to below high alike."""
    if high - low > 1 << 24:  # as dense as real numbers; SciPy's integers end at 2^63
        return RandomLaw("uniform", (float(low), float(high) - low), low, high, 1 / (high - low), 2.0**-24)
    return RandomLaw("randint", (low, high), low, high - 1, 1 / (high - low), is_discrete=True)


@cache
def _counts(family: str, arguments: tuple[float, ...], most: float) -> RandomLaw:
    return RandomLaw(family, arguments, 0.0, most, 0.0, 2.0**-20, is_discrete=True)  # made in float32
