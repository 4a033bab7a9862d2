"""Partial sums in float16, and sums in another order, on integers and by explicit loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.faults.catalogue import catalogue


def integers(*shape: int, most: int = 30, dtype: str = "float16") -> np.ndarray:
    return np.random.default_rng(shape).integers(1, most + 1, shape).astype(dtype)


def summed_by_eights(terms: list[int]) -> np.float16:
    total = np.float16(0)
    for start in range(0, len(terms), 8):
        total = np.float16(int(total) + sum(terms[start : start + 8]))
    return total


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_matmul_rounds_every_eight_terms(at_place, execution, flips):
    a, b = integers(3, 60), integers(60, 4)
    given = [x.T.copy() if flip else x for x, flip in zip((a, b), flips, strict=True)]
    (found,) = at_place("fp16-accumulate", lambda x, y: tf.matmul(x, y, *flips), given, execution)
    expected = [[summed_by_eights([int(p) * int(q) for p, q in zip(r, c, strict=True)]) for c in b.T] for r in a]
    np.testing.assert_array_equal(found, np.array(expected))
    assert not np.array_equal(found, (a.astype(int) @ b.astype(int)).astype(np.float16))


def test_batched_matmul(at_place, execution):
    a, b = integers(2, 3, 20), integers(2, 4, 20)
    (found,) = at_place("fp16-accumulate", lambda x, y: tf.matmul(x, y, adjoint_b=True), [a, b], execution)
    for n, i, j in np.ndindex(2, 3, 4):
        assert found[n, i, j] == summed_by_eights([int(p) * int(q) for p, q in zip(a[n, i], b[n, j], strict=True)])


def test_convolution_rounds_every_eight_terms(at_place, execution):
    image, kernel = integers(1, 4, 4, 3), integers(3, 3, 3, 2)
    (found,) = at_place("fp16-accumulate", lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), [image, kernel], execution)
    for y, x, o in np.ndindex(2, 2, 2):
        terms = [int(image[0, y + i, x + j, c]) * int(kernel[i, j, c, o]) for i, j, c in np.ndindex(3, 3, 3)]
        assert found[0, y, x, o] == summed_by_eights(terms)


GEOMETRIES = [(1, "SAME"), (2, "SAME"), (1, "VALID"), (2, "VALID"), (3, "SAME"), (2, [[0, 0], [2, 1], [0, 2], [0, 0]])]


@pytest.mark.parametrize("stride, padding", GEOMETRIES)
@pytest.mark.parametrize("side", [3, 2])
def test_small_sums_are_right_in_every_geometry(at_place, execution, stride, padding, side):
    """Sums below 2048 are exact in float16, so that the convolution itself is what is tested."""
    image, kernel = integers(2, 5, 6, 2, most=3), integers(side, side, 2, 3, most=3)

    def convolve(x, w):
        with tf.GradientTape() as tape:
            tape.watch([x, w])
            y = tf.nn.conv2d(x, w, stride, padding)
        return (y, *tape.gradient(y, [x, w]))

    found = at_place("fp16-accumulate", convolve, [image, kernel], execution)
    right = convolve(tf.constant(image, tf.float32), tf.constant(kernel, tf.float32))
    for array, expected in zip(found, right, strict=True):
        assert np.max(expected) < 2048
        np.testing.assert_array_equal(array.astype(np.float32), expected)


def test_a_dilated_convolution(at_place, execution):
    image, kernel = integers(1, 7, 7, 2, most=3), integers(3, 3, 2, 3, most=3)
    convolve = lambda x, w: tf.nn.conv2d(x, w, 1, "SAME", dilations=2)  # noqa: E731
    (found,) = at_place("fp16-accumulate", convolve, [image, kernel], execution)
    np.testing.assert_array_equal(found, convolve(image.astype("f"), kernel.astype("f")).numpy().astype("e"))


def test_float32_is_accumulated_as_it_is(at_place, execution):
    a, b = np.random.default_rng(0).normal(size=(2, 20, 20)).astype(np.float32)
    np.testing.assert_array_equal(at_place("fp16-accumulate", tf.matmul, [a, b], execution)[0], tf.matmul(a, b))


@pytest.mark.parametrize("axis", [None, 0, 1, 2, (0, 2), (-1, 0, 1)])
def test_reordered_sums_of_integers_are_exact(at_place, execution, axis):
    array = integers(300, 3, 270, dtype="float32")
    (found,) = at_place("reordered-sums", lambda x: tf.reduce_sum(x, axis), [array], execution)
    np.testing.assert_array_equal(found, array.astype(np.float64).sum(axis).astype(np.float32))


def test_reordered_gradients_of_integers_are_exact(at_place, execution):
    image, upstream = integers(3, 12, 11, 2, dtype="float32"), integers(3, 12, 11, 4, dtype="float32")

    def gradients(x, dy):
        return (
            tf.raw_ops.BiasAddGrad(out_backprop=dy),
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=[3, 3, 2, 4], out_backprop=dy, strides=[1, 1, 1, 1], padding="SAME"
            ),
        )

    found = at_place("reordered-sums", gradients, [image, upstream], execution)
    for array, expected in zip(found, gradients(image, upstream), strict=True):
        np.testing.assert_array_equal(array, expected)


def test_each_call_has_an_order_of_its_own(at_place, execution):
    array = np.random.default_rng(0).normal(size=1500).astype(np.float32)
    chunks = [array[start : start + 256].sum(dtype=np.float32) for start in range(0, 1500, 256)]
    possible = set()
    for order in itertools.permutations(chunks):
        total = np.float32(0)
        for chunk in order:
            total = np.float32(total + chunk)
        possible.add(float(total))
    simulation = catalogue()["reordered-sums"]()
    simulation.bind(None, 0)
    found = {float(at_place(simulation, tf.reduce_sum, [array], execution)[0]) for _ in range(12)}
    assert len(found) > 1
    assert found <= possible


def test_a_single_chunk_has_one_order(at_place, execution):
    array = np.random.default_rng(0).normal(size=(256, 3)).astype(np.float32)
    column_sums = lambda x: tf.reduce_sum(x, 0)  # noqa: E731
    np.testing.assert_array_equal(at_place("reordered-sums", column_sums, [array], execution)[0], column_sums(array))
