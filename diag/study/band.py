"""What chance alone does to a curve, and the epoch at which another place's leaves it.

A band belongs to one policy and one measure, and is made of the reference's curves there: of every seed, and of its
twins, whose first weights were moved by one rounding.  At each epoch it holds the mean of m further curves of the same
kind with probability 1 - alpha (Student's prediction interval for a mean):

    mean +- t(1 - alpha/2, dof) * s * sqrt(1/m + 1/n)

The candidate's mean over its m seeds is held against it.  s^2 is the variance over the n curves, the larger of that of
the epoch and the mean of it and its neighbours', and dof counts these as independent: of six curves alone t would be 9
and the band useless.  alpha is RISK over the number of questions that the whole study asks (epochs x measures x
policies x candidates, Bonferroni).  A curve that is not finite has left where the reference's are finite.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RISK = 0.003
"""Of a healthy candidate to leave anywhere, were spreads alike from epoch to epoch.

Where curves depend on the epoch before, or their spread changes threefold from one to the next, the neighbours are no
independent measurements of it, and the true risk is up to five times as large (tests/study/test_band.py).
"""
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
    with np.errstate(invalid="ignore", over="ignore"):
        variance = curves.var(axis=0, ddof=1)
        windows = [variance[max(0, epoch - 1) : epoch + 2] for epoch in range(len(variance))]
        pooled = np.array(
            [np.mean(window[np.isfinite(window)]) if np.isfinite(window).any() else np.nan for window in windows]
        )
        quantile = t.ppf(1 - RISK / num_questions / 2, [(number - 1) * len(window) for window in windows])
        spread = np.maximum(np.sqrt(np.maximum(variance, pooled)), resolution)
        half = quantile * spread * np.sqrt(1 / num_further + 1 / number)
        mean = curves.mean(axis=0)
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
