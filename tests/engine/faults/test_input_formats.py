"""Rounded inputs, on integers: their products and sums are exact in float32, in any order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

# Integers of 12 bits, so that a format of 11 has to round, ties included.
LEAST, MOST = 2**11, 2**12


def nearest_even(value: int, num_dropped: int) -> int:
    return round(value / 2**num_dropped) * 2**num_dropped  # Python rounds halves to even


def toward_zero(value: int, num_dropped: int) -> int:
    return int(value / 2**num_dropped) * 2**num_dropped


ROUNDINGS = {
    "bf16-inputs": lambda v: nearest_even(v, 4),
    "gemm-11bit": lambda v: toward_zero(v, 1),
    "tf32": lambda v: nearest_even(v, 1),
    "tf32-truncate": lambda v: toward_zero(v, 1),
}
PRODUCTS = sorted(ROUNDINGS)
EVERYWHERE = sorted(set(ROUNDINGS) - {"gemm-11bit"})


def integers(*shape: int) -> np.ndarray:
    random = np.random.default_rng(sum(shape))
    return (random.integers(LEAST, MOST, shape) * random.choice([-1, 1], shape)).astype(np.float32)


def rounded(array: np.ndarray, name: str) -> np.ndarray:
    return np.vectorize(lambda v: ROUNDINGS[name](int(v)), otypes=[np.int64])(array)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    result = np.zeros((a.shape[0], b.shape[1]), np.int64)
    for i, j, k in itertools.product(range(a.shape[0]), range(b.shape[1]), range(a.shape[1])):
        result[i, j] += a[i, k] * b[k, j]
    return result


def watched(image: np.ndarray, kernel: np.ndarray):
    """(image index, kernel index, output index) of every product of a convolution without padding."""
    height, width = image.shape[0] - kernel.shape[0] + 1, image.shape[1] - kernel.shape[1] + 1
    for y, x, i, j in itertools.product(range(height), range(width), range(kernel.shape[0]), range(kernel.shape[1])):
        yield (y + i, x + j), (i, j), (y, x)


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("transposed", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul(at_place, execution, name, transposed):
    a, b = integers(3, 3), integers(3, 2)
    given = [x.T.copy() if flip else x for x, flip in zip((a, b), transposed, strict=True)]
    multiply = lambda x, y: tf.linalg.matmul(x, y, *transposed)  # noqa: E731
    (found,) = at_place(name, multiply, given, execution)
    np.testing.assert_array_equal(found, product(rounded(a, name), rounded(b, name)))
    assert not np.array_equal(found, product(a.astype(int), b.astype(int)))


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize(
    "multiply", [tf.linalg.matmul, lambda x, y: tf.raw_ops.Einsum(inputs=[x, y], equation="bij,bjk->bik")]
)
def test_batched_products(at_place, execution, name, multiply):
    a, b = integers(2, 3, 3), integers(2, 3, 2)
    (found,) = at_place(name, multiply, [a, b], execution)
    expected = [product(rounded(x, name), rounded(y, name)) for x, y in zip(a, b, strict=True)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_convolution_and_its_gradients(at_place, execution, name):
    image, kernel, upstream = integers(3, 3), integers(2, 2), integers(2, 2)

    def convolve(x, w, dy):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = tf.nn.conv2d(x, w, 1, "VALID")
        return (y, *tape.gradient(y, [x, w], dy))

    given = [image[None, :, :, None], kernel[:, :, None, None], upstream[None, :, :, None]]
    y, dx, dw = at_place(name, convolve, given, execution)
    x, w, dy = (rounded(array, name) for array in (image, kernel, upstream))
    expected = [np.zeros(shape, np.int64) for shape in ((2, 2), (3, 3), (2, 2))]
    for at_x, at_w, at_y in watched(x, w):
        expected[0][at_y] += x[at_x] * w[at_w]
        expected[1][at_x] += dy[at_y] * w[at_w]
        expected[2][at_w] += dy[at_y] * x[at_x]
    for found, right in zip((y, dx, dw), expected, strict=True):
        np.testing.assert_array_equal(found.squeeze(), right)


@pytest.mark.parametrize("name", EVERYWHERE)
def test_depthwise_convolution(at_place, execution, name):
    image, kernel = integers(3, 3), integers(2, 2)
    given = [image[None, :, :, None], kernel[:, :, None, None]]
    (found,) = at_place(name, lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "VALID"), given, execution)
    x, w = rounded(image, name), rounded(kernel, name)
    expected = np.zeros((2, 2), np.int64)
    for at_x, at_w, at_y in watched(x, w):
        expected[at_y] += x[at_x] * w[at_w]
    np.testing.assert_array_equal(found.squeeze(), expected)


@pytest.mark.parametrize("name", EVERYWHERE)
@pytest.mark.parametrize("dtype", ["float64", "float16", "bfloat16"])
def test_other_dtypes_are_left_alone(at_place, execution, name, dtype):
    a, b = (tf.cast(integers(3, 3) / 4096, dtype).numpy() for _ in range(2))
    (found,) = at_place(name, tf.linalg.matmul, [a, b], execution)
    np.testing.assert_array_equal(found, tf.linalg.matmul(a, b).numpy())


@pytest.mark.parametrize("name", EVERYWHERE)
def test_other_ops_are_left_alone(at_place, execution, name):
    a = integers(3, 3)
    (found,) = at_place(name, lambda x: x + x, [a], execution)
    np.testing.assert_array_equal(found, 2 * a)


def test_gemm_11bit_is_for_matrices_only(at_place, execution):
    square, batch = integers(3, 3), integers(2, 3, 3)
    column = np.array([[1], [2], [3]], np.float32)
    for a, b in ((square, column), (column.T.copy(), square)):
        (found,) = at_place("gemm-11bit", tf.linalg.matmul, [a, b], execution)
        np.testing.assert_array_equal(found, product(a.astype(int), b.astype(int)))
    (found,) = at_place("gemm-11bit", tf.linalg.matmul, [batch, batch], execution)
    low = rounded(batch, "gemm-11bit")
    np.testing.assert_array_equal(found, [product(x, x) for x in low])
    image, kernel = integers(3, 3)[None, :, :, None], integers(2, 2)[:, :, None, None]
    convolve = lambda x, w: tf.nn.conv2d(x, w, 1, "VALID")  # noqa: E731
    np.testing.assert_array_equal(
        at_place("gemm-11bit", convolve, [image, kernel], execution)[0], convolve(image, kernel)
    )
