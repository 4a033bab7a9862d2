"""The oracles of exact probes against other libraries: SciPy's correlation, and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal

from probes.exact import oracles
from probes.exact.oracles import Geometry

RANDOM = np.random.default_rng(5)


def integers(*shape: int) -> np.ndarray:
    return RANDOM.integers(-3, 4, shape)


def correlated(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """One image and kernel with channels, no padding: SciPy channel by channel."""
    planes = [
        sum(signal.correlate(x[..., i], w[..., i, o], "valid", "direct") for i in range(x.shape[-1]))
        for o in range(w.shape[-1])
    ]
    return np.stack(planes, -1)


@pytest.mark.parametrize("sizes", [(9,), (7, 8), (4, 5, 6)])
def test_a_convolution_is_scipys_correlation(sizes: tuple[int, ...]) -> None:
    x, w = integers(2, *sizes, 3), integers(*[2] * len(sizes), 3, 4)
    ones = [1] * len(sizes)
    for found, image in zip(oracles.convolution(x, w, Geometry(ones, "VALID", ones)), x, strict=True):
        np.testing.assert_array_equal(found, correlated(image, w))


def test_strides_dilations_paddings_and_groups_by_hand() -> None:
    x = np.arange(1, 6).reshape(1, 5, 1)  # 1 2 3 4 5
    w = np.array([1, 10, 100]).reshape(3, 1, 1)
    for strides, padding, dilations, right in (
        (1, "SAME", 1, [210, 321, 432, 543, 54]),
        (2, "SAME", 1, [210, 432, 54]),
        (2, "VALID", 1, [321, 543]),
        (1, "VALID", 2, [531]),
        (1, [(2, 0)], 1, [100, 210, 321, 432, 543]),
    ):
        found = oracles.convolution(x, w, Geometry((strides,), padding, (dilations,)))
        assert found.reshape(-1).tolist() == right
    apart = oracles.convolution(np.array([[[3, 5]]]), np.array([[[2, 7]]]), Geometry((1,), "SAME", (1,), 2))
    assert apart.reshape(-1).tolist() == [6, 35]


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(1, 2), (0, 1)]])
@pytest.mark.parametrize(
    ("strides", "dilations", "groups"), [((1, 1), (1, 1), 1), ((2, 3), (1, 1), 2), ((1, 1), (2, 2), 2)]
)
def test_gradients_are_adjoint_to_the_convolution(padding, strides, dilations, groups) -> None:
    """<g, conv(x, w)> = <x, to_image(g, w)> = <w, to_kernel(x, g)>, in integers."""
    x, w = integers(2, 8, 9, 4), integers(3, 2, 4 // groups, 6)
    geometry = Geometry(strides, padding, dilations, groups)
    y = oracles.convolution(x, w, geometry)
    g = integers(*y.shape)
    product = (g * y).sum()
    assert (x * oracles.gradient_to_image(g, w, x.shape, geometry)).sum() == product
    assert (w * oracles.gradient_to_kernel(x, g, w.shape, geometry)).sum() == product


def test_a_depthwise_convolution_is_one_of_as_many_groups() -> None:
    x, w = integers(2, 7, 8, 3), integers(2, 3, 3, 2)
    grouped = oracles.convolution(x, w.reshape(2, 3, 1, 6), Geometry((1, 1), "SAME", (1, 1), 3))
    geometry = Geometry((1, 1), "SAME", (1, 1))
    y = oracles.depthwise(x, w, geometry)
    np.testing.assert_array_equal(y, grouped)
    g = integers(*y.shape)
    assert (x * oracles.depthwise_to_image(g, w, x.shape, geometry)).sum() == (g * y).sum()
    assert (w * oracles.depthwise_to_kernel(x, g, w.shape, geometry)).sum() == (g * y).sum()


def test_pooling_by_hand() -> None:
    x = np.array([3.0, 1, 4, 1, 5]).reshape(1, 5, 1)
    assert oracles.max_pool(x, (2,), (2,), "SAME").reshape(-1).tolist() == [3, 4, 5]
    assert oracles.average_pool(x, (2,), (2,), "SAME").reshape(-1).tolist() == [2, 2.5, 5]  # the edge counts one
    upstream = np.array([10.0, 20, 30]).reshape(1, 3, 1)
    assert oracles.max_pool_gradient(x, upstream, (2,), (2,), "SAME").reshape(-1).tolist() == [10, 0, 20, 0, 30]
    spread = oracles.average_pool_gradient((1, 5, 1), upstream, (2,), (2,), "SAME")
    assert spread.reshape(-1).tolist() == [5, 5, 10, 10, 30]
