"""Which ops have a float64 kernel that may stand for truth: by their definitions, not by trying."""

from __future__ import annotations

import pytest
import tensorflow as tf

from diag.engine.graphs.tf_runtime import has_fixed_floats, in_double

SINGLE, DOUBLE = tf.float32.as_datatype_enum, tf.float64.as_datatype_enum
COMPLEX = tf.complex64.as_datatype_enum


def test_a_product_has_one():
    wide = in_double("MatMul", {"T": SINGLE, "transpose_a": False})
    assert wide == {"T": DOUBLE, "transpose_a": False}


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("ResizeBilinearGrad", {"T": SINGLE, "align_corners": False}),  # its gradients are float32 whatever T is
        ("ImageProjectiveTransformV3", {"dtype": SINGLE}),  # so are the transforms
        ("ComplexAbs", {"T": COMPLEX, "Tout": SINGLE}),
        ("RFFT", {"Treal": SINGLE, "Tcomplex": COMPLEX}),
    ],
)
def test_what_is_of_a_fixed_or_a_complex_dtype_has_none(op, attrs):
    assert in_double(op, attrs) is None


def test_fixed_is_what_no_attribute_names():
    assert has_fixed_floats("ResizeBilinear")
    assert not has_fixed_floats("Conv2D")
    assert not has_fixed_floats("Shape")
