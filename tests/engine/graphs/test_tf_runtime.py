"""Which ops have a float64 kernel that may stand for truth: by their definitions, not by trying."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.tf_runtime import from_pairs, has_fixed_floats, in_double, in_dtype, to_numpy

SINGLE, DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
COMPLEX, COMPLEX_DOUBLE = tf.complex64.as_datatype_enum, tf.complex128.as_datatype_enum


def test_a_product_has_one():
    wide = in_double("MatMul", {"T": SINGLE, "transpose_a": False})
    assert wide == {"T": DOUBLE, "transpose_a": False}


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("ResizeBilinearGrad", {"T": SINGLE, "align_corners": False}),  # its gradients are float32 whatever T is
        ("ImageProjectiveTransformV3", {"dtype": SINGLE}),  # so are the transforms
    ],
)
def test_what_is_of_a_fixed_dtype_has_none(op, attrs):
    assert in_double(op, attrs) is None


@pytest.mark.parametrize(
    ("op", "attrs", "wide"),
    [
        ("ComplexAbs", {"T": COMPLEX, "Tout": SINGLE}, {"T": COMPLEX_DOUBLE, "Tout": DOUBLE}),
        ("RFFT", {"Treal": SINGLE, "Tcomplex": COMPLEX}, {"Treal": DOUBLE, "Tcomplex": COMPLEX_DOUBLE}),
    ],
)
def test_complex_numbers_have_twice_the_width_too(op, attrs, wide):
    assert in_double(op, attrs) == wide
    assert in_dtype(op, attrs, tf.bfloat16) is None  # there are no such complex numbers


def test_complex_numbers_are_pairs_of_reals():
    values = np.array([[1 + 2j, -0.0 + 3j], [np.inf - 1j, 5]], np.complex64)
    pairs = to_numpy(tf.constant(values))
    assert (pairs.shape, pairs.dtype) == ((2, 2, 2), np.float32)
    np.testing.assert_array_equal(pairs[..., 0], values.real)
    np.testing.assert_array_equal(pairs[..., 1], values.imag)
    np.testing.assert_array_equal(from_pairs(pairs, tf.complex64).numpy(), values)
    scalar = to_numpy(tf.constant(1 - 2j, tf.complex128))
    assert (scalar.tolist(), scalar.dtype) == ([1.0, -2.0], np.float64)


def test_fixed_is_what_no_attribute_names():
    assert has_fixed_floats("ResizeBilinear")
    assert not has_fixed_floats("Conv2D")
    assert not has_fixed_floats("Shape")
