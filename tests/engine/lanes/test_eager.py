"""Single ops at a place."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import node_of
from diag.engine.lanes.eager import EagerPlace
from diag.machine.places import parse_place
from diag.numerics.allowances import allowance
from diag.numerics.formats import format_of
from diag.numerics.ulp import ulp_error


def test_what_the_cpu_has_no_kernel_for_is_run_by_xla():
    """The gradient of a grouped convolution in float16: of small whole numbers, so that its halves are exact."""
    generator = np.random.default_rng(0)
    kernel, given = (
        tf.constant(generator.integers(-3, 4, shape), tf.float16) for shape in ((3, 3, 2, 6), (1, 4, 4, 6))
    )

    @tf.function
    def step(size, kernel, given):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=size, filter=kernel, out_backprop=given, strides=[1, 1, 1, 1], padding="VALID"
        )

    size = tf.constant([1, 6, 6, 4])
    graph = step.get_concrete_function(size, kernel, given).graph
    node = next(node_of(each) for each in graph.get_operations() if each.type == "Conv2DBackpropInput")
    place = EagerPlace(parse_place("CPU:0"), None)
    (found,) = place.run(node, [size, kernel, given], ())
    halves = [
        tf.nn.conv2d_transpose(tf.cast(g, tf.float32), tf.cast(k, tf.float32), [1, 6, 6, 2], 1, "VALID")
        for k, g in zip(tf.split(kernel, 2, 3), tf.split(given, 2, 3), strict=True)
    ]
    np.testing.assert_array_equal(found, tf.concat(halves, 3))
    with pytest.raises(tf.errors.InvalidArgumentError, match="Conv2DBackpropInput"):  # in TensorFlow's own words
        place.run(node, [tf.constant([1, 9, 9, 4]), kernel, given], ())


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_one_number_alone_is_within_what_its_place_is_allowed(dtype):
    """The end of an array is not computed as the rest of it: 1 / sqrt(x) is rounded to 16 bits twice."""
    numbers = tf.bitcast(tf.constant(np.arange(0x400, 0x7C00, 31, np.uint16)), dtype)
    alone = tf.stack([tf.math.rsqrt(number[None])[0] for number in numbers])
    truth = 1 / np.sqrt(tf.cast(numbers, tf.float64).numpy())
    off = np.abs(ulp_error(alone.numpy(), truth, format_of(alone.dtype.as_numpy_dtype)))
    row = allowance("Rsqrt", dtype, "tensorflow-cpu")
    assert row is not None and 1 < off.max() <= row.ulp
