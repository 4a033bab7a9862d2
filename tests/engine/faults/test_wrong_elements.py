"""Wrong elements, against what they should hold, by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

FIVE_SIX = np.arange(1, 31, dtype=np.float32).reshape(5, 6)


@pytest.mark.parametrize("num_channels", [512, 513])
def test_the_last_channel_stands_in_the_first(at_place, execution, num_channels):
    image = np.arange(1, 9, dtype=np.float32).reshape(2, 4, 1)
    kernel = np.arange(1, num_channels + 1, dtype=np.float32).reshape(1, 1, num_channels)
    expected = image * kernel[0]
    if num_channels > 512:
        expected[..., 0] = image[..., 0] * num_channels
        expected[..., -1] = 0
    (found,) = at_place("conv1d-last-channel", lambda x, w: tf.nn.conv1d(x, w, 1, "VALID"), [image, kernel], execution)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("k", [16, 17, 20])
def test_only_16_are_sorted(at_place, execution, k):
    row = np.arange(1, 31, dtype=np.float32)
    values, indices = at_place("topk-16", lambda x: tuple(tf.math.top_k(x, k)), [np.stack([row, -row])], execution)
    expected = np.arange(30, 30 - k, -1, dtype=np.float32)
    positions = np.arange(29, 29 - k, -1)
    expected[16:] = positions[16:] = 0
    np.testing.assert_array_equal(values[0], expected)
    np.testing.assert_array_equal(indices[0], positions)
    np.testing.assert_array_equal(indices[1, :16], np.arange(16))
    assert not np.any(values[:, 16:]) and not np.any(indices[:, 16:])


@pytest.mark.parametrize("height, width, num_seen", [(4, 8, 32), (5, 7, 32), (3, 3, 0), (8, 9, 64)])
def test_the_tail_of_a_kernels_gradient_is_missing(at_place, execution, height, width, num_seen):
    random = np.random.default_rng(height)
    image, upstream = random.integers(-9, 9, (2, 2, height, width, 2)).astype(np.float32)
    gradient = lambda x, dy: tf.raw_ops.Conv2DBackpropFilter(  # noqa: E731
        input=x, filter_sizes=[1, 1, 2, 2], out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
    )
    (found,) = at_place("filter-grad-tail", gradient, [image, upstream], execution)
    expected = np.zeros((2, 2))
    for n in range(2):
        for pixel in range(num_seen):
            y, x = divmod(pixel, width)
            expected += np.outer(image[n, y, x], upstream[n, y, x])
    np.testing.assert_array_equal(found[0, 0], expected)


@pytest.mark.parametrize(
    "view", [lambda x: tf.transpose(x), lambda x: x[:, 1:4], lambda x: x[::2], lambda x: tf.slice(x, [1, 1], [2, 3])]
)
def test_a_view_is_read_as_if_contiguous(at_place, execution, view):
    (found,) = at_place("strided-read", view, [FIVE_SIX], execution)
    shape = view(FIVE_SIX).shape
    np.testing.assert_array_equal(found, np.arange(1, np.prod(shape) + 1).reshape(shape))


def test_slices_of_shapes_are_right(at_place, execution):
    shape = np.array([7, 8, 9], np.int32)
    np.testing.assert_array_equal(at_place("strided-read", lambda x: x[1:], [shape], execution)[0], [8, 9])
