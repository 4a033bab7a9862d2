"""Functions in float64, for holding float32 and narrower results against.

NumPy's and SciPy's float64 functions are off by a few ULP of float64, 2^-27 of an ULP of float32: so an error of
float32 is right to seven digits, and the share of correctly rounded results too, but for one number in 10^8 that lies
on the border.  tests/probes/accuracy/test_truth.py holds each against mpmath, at huge arguments and near zeros of the
function too; where float64 is not good enough, near the zeros of lgamma and digamma, mpmath computes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

LEAK = 0.25  # a slope that every format holds
SELU_SCALE = 1.0507009873554804934193349852946  # Klambauer et al. 2017, Self-Normalizing Neural Networks
SELU_SCALE_ALPHA = SELU_SCALE * 1.6732632423543772848170429916717
NEAR_ZERO = 2.0**-8  # below it gammaln and psi, right to 1e-15 of their terms, are no more right to 2^-27 or so


def softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softsign(x: Array) -> Array:
    return x / (1 + np.abs(x))


def rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def elu(x: Array) -> Array:
    return np.where(x < 0, np.expm1(np.minimum(x, 0)), x)


def selu(x: Array) -> Array:
    return np.where(x < 0, SELU_SCALE_ALPHA * np.expm1(np.minimum(x, 0)), SELU_SCALE * x)


def selu_grad(gradient: Array, output: Array) -> Array:
    return gradient * np.where(output < 0, output + SELU_SCALE_ALPHA, SELU_SCALE)


def relu(x: Array) -> Array:
    return np.where(x < 0, 0.0, x)


def relu6(x: Array) -> Array:
    return np.clip(x, 0, 6)


def leaky_relu(x: Array) -> Array:
    return np.where(x > 0, x, LEAK * x)


def mul_no_nan(x: Array, y: Array) -> Array:
    """0 where y is 0, whatever x."""
    return np.where(y == 0, 0.0, x * y)


def div_no_nan(x: Array, y: Array) -> Array:
    """0 where y is 0, whatever x."""
    return np.where(y == 0, 0.0, x / y)


def xdivy(x: Array, y: Array) -> Array:
    """0 where x is 0, whatever y."""
    return np.where(x == 0, 0.0, x / y)


def floor_mod(x: Array, y: Array) -> Array:
    """x - y floor(x / y): the remainder is exact, and adding y to it rounds once."""
    remainder = np.fmod(x, y)
    return np.where((remainder != 0) & ((remainder < 0) != (y < 0)), remainder + y, remainder)


def erfinv_slope(x: Array) -> Array:
    """What an error of 1 in x does: kernels compute the function from (x + 1) / 2."""
    inverse = special.erfinv(x)
    return np.where(np.abs(x) < 1, np.sqrt(np.pi) / 2 * np.exp(np.square(inverse)), 0.0)


def lgamma(x: Array) -> Array:
    return _mended(special.gammaln(np.where(x == -np.inf, np.inf, x)), x, lambda mp: lambda v: mp.loggamma(v).real)


def lgamma_terms(x: Array) -> Array:
    """Terms of Stirling's formula, and of the reflection to positive numbers."""
    magnitude = np.abs(x)
    stirling = magnitude * np.abs(np.log(magnitude)) + magnitude + 1
    reflected = np.abs(np.log(np.abs(np.sin(np.pi * np.fmod(x, 2)))))
    return np.where(np.isfinite(x), stirling + np.where(x < 0.5, reflected, 0.0), 0.0)


def digamma(x: Array) -> Array:
    return _mended(special.psi(x), x, lambda mp: mp.digamma)


def digamma_terms(x: Array) -> Array:
    """log|x|, 1/x of the recurrence, and pi cot(pi x) of the reflection, whose argument was rounded."""
    magnitude = np.abs(x)
    with np.errstate(all="ignore"):
        terms = np.abs(np.log(magnitude)) + 1 / magnitude + 1
        fraction = np.fmod(x, 1)
        slope = np.pi**2 / np.square(np.sin(np.pi * fraction)) * np.minimum(magnitude, 2.0**24)
    return np.where(np.isfinite(x), terms + np.where(x < 0, slope, 0.0), 0.0)


def at_pole(x: Array) -> npt.NDArray[np.bool_]:
    return ((x <= 0) & (x == np.floor(x))) | np.isneginf(x)


def _mended(values: Array, x: Array, function: Callable[[Any], Callable[[Any], Any]]) -> Array:
    """Values near zero again by mpmath, 10^4 distinct arguments a second."""
    doubtful = np.flatnonzero((np.abs(values) < NEAR_ZERO) & (np.abs(values) > 0))
    arguments, places = np.unique(x[doubtful], return_inverse=True)
    with mpmath.workdps(40):
        of = function(mpmath.mp)
        values[doubtful] = np.array([float(of(mpmath.mpf(float(v)))) for v in arguments], np.float64)[places]
    return values
