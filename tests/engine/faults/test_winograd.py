"""Winograd's convolution is right in norm, and not bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

random = np.random.default_rng(1)
IMAGE = random.normal(size=(2, 7, 9, 32)).astype(np.float32)
KERNEL = random.normal(size=(3, 3, 32, 64)).astype(np.float32)


def direct(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Without padding, in float64."""
    height, width = image.shape[1] - 2, image.shape[2] - 2
    result = np.zeros((len(image), height, width, kernel.shape[3]))
    for i, j in np.ndindex(3, 3):
        result += image[:, i : i + height, j : j + width].astype(np.float64) @ kernel[i, j]
    return result


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_it_is_right_in_norm(at_place, execution, padding):
    convolve = lambda x, w: tf.nn.conv2d(x, w, 1, padding)  # noqa: E731
    (found,) = at_place("winograd-4x4", convolve, [IMAGE, KERNEL], execution)
    image = np.pad(IMAGE, [(0, 0), (1, 1), (1, 1), (0, 0)]) if padding == "SAME" else IMAGE
    right = direct(image, KERNEL)
    # F(4x4, 3x3) loses 28 roundings or more (NUMERICS: 28 to 256 per element); in norm the least of it.
    assert np.linalg.norm(found - right) < 28 * 2.0**-24 * np.linalg.norm(right)
    plain = convolve(IMAGE, KERNEL).numpy()
    assert np.abs(found - right).max() > 2 * np.abs(plain - right).max()  # it errs more than a plain sum


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_so_is_the_gradient_of_its_kernel(at_place, execution, padding):
    """7 x 9 elements and 5 x 7 outputs are no whole number of tiles of 4."""
    upstream = random.normal(size=tf.nn.conv2d(IMAGE, KERNEL, 1, padding).shape).astype(np.float32)

    def gradient(x, dy):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=KERNEL.shape, out_backprop=dy, strides=[1] * 4, padding=padding
        )

    (found,) = at_place("winograd-4x4", gradient, [IMAGE, upstream], execution)
    image = np.pad(IMAGE, [(0, 0), (1, 1), (1, 1), (0, 0)]) if padding == "SAME" else IMAGE
    height, width = upstream.shape[1:3]
    right = np.stack(
        [
            [
                np.einsum("nhwc,nhwk->ck", image[:, i : i + height, j : j + width], upstream, dtype=float)
                for j in range(3)
            ]
            for i in range(3)
        ]
    )
    assert np.linalg.norm(found - right) < 28 * 2.0**-24 * np.linalg.norm(right)
    assert np.abs(found - right).max() > 2 * np.abs(gradient(IMAGE, upstream).numpy() - right).max()


@pytest.mark.parametrize(
    "kernel, stride",
    [(KERNEL, 2), (KERNEL[..., :33], 1), (KERNEL[:1, :1], 1), (KERNEL[:, :, :16], 1)],
    ids=["stride", "outputs", "size", "inputs"],
)
def test_other_convolutions_are_left_alone(at_place, execution, kernel, stride):
    convolve = lambda x, w: tf.nn.conv2d(x, w, stride, "SAME")  # noqa: E731
    given = [np.ascontiguousarray(IMAGE[..., : kernel.shape[2]]), np.ascontiguousarray(kernel)]
    np.testing.assert_array_equal(at_place("winograd-4x4", convolve, given, execution)[0], convolve(*given))
