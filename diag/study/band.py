"""What chance alone does to a curve, and the epoch at which another place's leaves it.

A band belongs to one policy and one measure, and is made of the reference's curves there: of every seed, and of its
twins, whose first weights were moved by one rounding.  At each epoch it holds the mean of m further curves of the same
kind with probability 1 - alpha (Student's prediction interval for a mean):

    mean +- t(1 - alpha/2, n - 1) * s * sqrt(1/m + 1/n)

The candidate's mean over its m seeds is held against it.  alpha is RISK over the number of questions that the whole
study asks (epochs x measures x policies x candidates, Bonferroni), so that a study of places that differ by rounding
alone says once in a hundred times that one of them left.  A curve that is not finite has left where the reference's
are finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RISK = 0.01
FEWEST = 3
"""Curves without which there is no band to speak of: a spread of two says nothing."""


@dataclass(frozen=True)
class Band:
    """low, high: (epochs,), what the mean of further curves keeps to."""

    low: np.ndarray
    high: np.ndarray


def band_of(curves: np.ndarray, num_further: int, num_questions: int, resolution: float = 0.0) -> Band | None:
    """The band of curves, (n, epochs), for the mean of `num_further`; None of fewer than FEWEST.

    resolution: what one sample of the validation data is worth; a spread below is none that could be measured.
    """
    if len(curves) < FEWEST:
        return None
    from scipy.stats import t  # scipy.stats takes half a second to load

    number = len(curves)
    quantile = t.ppf(1 - RISK / num_questions / 2, number - 1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = curves.mean(axis=0)
        spread = np.maximum(curves.std(axis=0, ddof=1), resolution)
        half = quantile * spread * np.sqrt(1 / num_further + 1 / number)
    return Band(mean - half, mean + half)


def left_at(candidate: np.ndarray, band: Band) -> int | None:
    """The first epoch, from 0, whose mean over the candidate's curves, (m, epochs), is out of the band; None: none."""
    with np.errstate(invalid="ignore", over="ignore"):
        mean = candidate.mean(axis=0)
    is_out = ~((mean >= band.low) & (mean <= band.high)) & np.isfinite(band.low) & np.isfinite(band.high)
    return int(np.argmax(is_out)) if is_out.any() else None


@dataclass(frozen=True)
class Departure:
    """A candidate's curve that left the reference's band.

    epoch: from 1, as epochs are printed.  value: the candidate's mean there; low, high: the band.
    """

    place: str
    policy: str
    measure: str
    epoch: int
    value: float
    low: float
    high: float
