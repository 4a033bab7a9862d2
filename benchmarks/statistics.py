"""The statistics kernels against the same figures in plain NumPy, on the CNN's largest activation.

The plain expression is written as a person who knows NumPy would write it: no needless pass, but one
whole-array expression a figure.  That both give the same figures is checked before they are timed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.timing import Row, TimedTask, interleaved, speedup
from diag.numerics.figures import HISTOGRAM_EDGES, Statistics
from diag.numerics.formats import FLOAT32
from diag.numerics.statistics import against_truth, compare
from diag.numerics.ulp import PairClass, classify, ulp_error

NAME = "statistics"
TARGET = 8.0
Figures = dict[str, Any]


def plain_compare(r: npt.NDArray[np.float32], x: npt.NDArray[np.float32]) -> Figures:
    """`compare` of two float32 tensors."""
    lines = []
    for bits in (r.view(np.int32), x.view(np.int32)):
        magnitude = (bits & 0x7FFF_FFFF).astype(np.int64)
        lines.append(np.where(bits < 0, -magnitude, magnitude))
    return _figures(r, x, (lines[1] - lines[0]).astype(np.float64))


def plain_against_truth(x: npt.NDArray[np.float32], truth: npt.NDArray[np.float64]) -> Figures:
    """`against_truth` of a float32 tensor."""
    return _figures(truth, x, ulp_error(x, truth, FLOAT32))


def _figures(r: npt.NDArray[Any], x: npt.NDArray[Any], errors: npt.NDArray[np.float64]) -> Figures:
    classes = classify(r, x, FLOAT32)
    counts = np.bincount(classes.reshape(-1), minlength=len(PairClass))
    finite = np.isfinite(r) & np.isfinite(x)
    r, x, error = r[finite].astype(np.float64), x[finite].astype(np.float64), errors[finite]
    size, difference, magnitude = np.abs(error), np.abs(x - r), np.abs(r)
    nonzero = magnitude > 0
    relative = difference[nonzero] / magnitude[nonzero]
    p50, p99 = np.percentile(size, (50, 99), method="inverted_cdf")
    octave = np.clip(np.frexp(size)[1] + 32, 0, 96) + 1
    return {
        "num_unequal": np.count_nonzero(error),
        "num_zero_sign": np.count_nonzero((r == 0) & (x == 0) & (np.signbit(r) != np.signbit(x))),
        "max": size.max(),
        "mean": size.mean(),
        "rms": np.sqrt(np.mean(size * size)),
        "p50": p50,
        "p99": p99,
        "bias": error.mean(),
        "histogram": np.bincount(np.where(size == 0, 0, octave), minlength=HISTOGRAM_EDGES.size),
        "worst_index": np.unravel_index(np.argmax(size), finite.shape) if size.any() else None,
        "normwise_relative_error": np.linalg.norm(difference) / np.linalg.norm(magnitude),
        "max_relative_error": relative.max(initial=0.0),
        "mean_relative_error": relative.mean(),
        "num_zero_reference": nonzero.size - np.count_nonzero(nonzero),
        "max_absolute_difference": difference.max(),
        "both_zero": counts[PairClass.BOTH_ZERO],
        "opposite_signs": counts[PairClass.OPPOSITE_SIGNS],
        "subnormals": counts[PairClass.SUBNORMAL],
    }


def require_same(figures: Figures, kernel: Statistics) -> None:
    """Raises AssertionError where the plain expression is not what the kernel computes.

    Percentiles of the kernel may be 1/64 too small; whether x is correctly rounded, only the kernel asks.
    """
    for name, plain in figures.items():
        found = getattr(kernel, name) if hasattr(kernel, name) else getattr(kernel.classes, name)
        if name == "num_unequal" and type(kernel).__name__ == "TruthStatistics":
            continue
        tolerance = 1 / 64 if name in ("p50", "p99") else 1e-9
        # None, of a worst index, becomes NaN, which equals itself here.
        pair = np.asarray(found, float), np.asarray(plain, float)
        np.testing.assert_allclose(*pair, rtol=tolerance, err_msg=name)


def measure(image_size: int, batch_size: int, rounds: int) -> Iterator[Row]:
    r, x, truth = activations((batch_size, image_size - 2, image_size - 2, 32))
    pairs = (
        ("compare, all bits equal", partial(plain_compare, r, r), partial(compare, r, r)),
        ("compare, values differ", partial(plain_compare, r, x), partial(compare, r, x)),
        ("against_truth", partial(plain_against_truth, x, truth), partial(against_truth, x, truth)),
    )
    for what, plain, kernel in pairs:
        require_same(plain(), kernel())
        found = interleaved(rounds, {"plain": TimedTask(plain), "kernel": TimedTask(kernel)}, warm_up=False)
        what = f"{what}, {r.size:,} float32 / the same figures in plain NumPy"
        yield speedup(NAME, what, found["kernel"], found["plain"], TARGET)


def activations(shape: tuple[int, ...]) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """Two float32 tensors a few ULP apart, as after a convolution and a relu, and their float64 truth."""
    rng = np.random.default_rng(0)
    truth = np.maximum(rng.standard_normal(shape), 0.0)
    r, x = ((truth * (1 + 3e-7 * rng.standard_normal(shape))).astype(np.float32) for _ in range(2))
    return r, x, truth
