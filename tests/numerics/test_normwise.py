"""What is right in norm: the units of each bound, by hand."""

from __future__ import annotations

import math

import numpy as np

from diag.numerics.formats import FLOAT32
from diag.numerics.normwise import (
    fast_product_bound,
    norms_of,
    normwise_bound,
    product_norms,
    random_walk,
    transform_bound,
)


def test_a_transform_mixes_positions_and_keeps_channels_apart() -> None:
    """Errors of 3 units of each channel's own norm are right in norm, though one channel is 10,000 times the rest."""
    rng = np.random.default_rng(5)
    sizes = np.ones((3, 3, 8, 64)) * np.where(np.arange(64) == 0, 1e4, 1.0)
    sizes[0, 0] *= 1e-9  # a position with small terms inherits the errors of its neighbours
    unit = np.sqrt(np.mean(np.square(sizes), axis=(0, 1), keepdims=True))
    x = np.zeros(sizes.shape, np.float32)
    truth = 2.0**-24 * 3 * unit * rng.choice([-1.0, 1.0], sizes.shape)
    assert math.isclose(normwise_bound(x, truth, norms_of(sizes, (0, 1)), FLOAT32).rms, 3.0)
    assert normwise_bound(x, truth, norms_of(sizes, (0, 1)), FLOAT32).is_explained
    truth[1, 1, 2, 3] *= 100
    assert not normwise_bound(x, truth, norms_of(sizes, (0, 1)), FLOAT32).is_explained


def test_the_norms_of_a_product_by_hand() -> None:
    """Rows of norm 5 and 13, columns of norm 1 and 2; in a stack each product has its own."""
    a, b = np.array([[3.0, 4.0], [5.0, 12.0]]), np.array([[1.0, 0.0], [0.0, 2.0]])
    found = product_norms(np.stack([a, 10 * a]), b)
    np.testing.assert_allclose(found.rms[:, 0, 0], np.sqrt(194 * 5 / 4) * np.array([1, 10]))
    np.testing.assert_allclose(found.largest[:, 0, 0], 26 * np.array([1, 10]))
    column, one = np.array([[3.0], [4.0]]), np.ones((1, 1))
    np.testing.assert_allclose(random_walk(column, one, 1, is_padded=True) ** 2, [[9 + 49], [16 + 49]])
    np.testing.assert_allclose(random_walk(column, one, 1, is_padded=False), column)  # an odd side stays by itself


def test_a_fast_product_is_off_everywhere_or_nowhere() -> None:
    """Elements of rows whose own terms are nothing: all a little off is right in norm, one alone is not."""
    a, b = np.ones((8, 16)), np.ones((16, 8))
    a[4:] = 0.0
    truth, scale, norms = a @ b, a @ b, product_norms(a, b)
    unit = 2.0**-24 * norms.rms[0, 0]

    def is_explained(error: np.ndarray) -> bool:
        return fast_product_bound(truth + error, truth, scale, norms, FLOAT32).is_explained

    off = np.zeros((8, 8))
    off[4:] = 2 * unit
    assert is_explained(off) and not is_explained(2 * off)
    for few in ((5, 5), (5, [2, 6]), ([4, 7], 5), (np.s_[4:6], np.s_[4:6]), (5, np.s_[:4])):  # a block, half a row
        off[:] = 0.0
        off[few] = 1.9 * unit
        assert not is_explained(off)
    off[4:] = 0.02 * unit
    off[5, 5:7] = 1.9 * unit  # 95 times as large as the others
    assert is_explained(off) and not is_explained(np.where(off > unit, 1.1 * off, off))
    assert not is_explained(np.where(off > 0, np.inf, 0.0))
    zero = product_norms(a, 0 * b)
    assert not fast_product_bound(off, 0 * truth, 0 * scale, zero, FLOAT32).is_explained


def test_two_wrong_elements_of_a_transform_do_not_vouch_for_each_other() -> None:
    """The usual error is a twentieth of a unit: 12.8 are granted to the largest."""
    x, sizes, unit = np.zeros((32, 32), np.float32), np.ones((32, 32)), 2.0**-24
    for few in ((3, 3), (3, [3, 9]), (np.s_[3:5], np.s_[3:5]), (3, np.s_[:16])):
        truth = np.full(x.shape, 0.05 * unit)
        truth[few] = 12 * unit
        assert transform_bound(x, truth, sizes, FLOAT32).is_explained
        truth[few] = 14 * unit
        assert not transform_bound(x, truth, sizes, FLOAT32).is_explained
