"""Ops from their definitions, against TensorFlow's float32 kernels, and against values computed by hand."""

import numpy as np
import pytest
import tensorflow as tf

from diag.numerics.definitions import defined, defined_scale, without_placeholders

RANDOM = np.random.default_rng(0)
X, DY = RANDOM.normal(2, 3, (2, 4, 5, 6, 3)).astype(np.float32)
SCALE, OFFSET, MEAN = RANDOM.normal(size=(3, 3)).astype(np.float32)
VARIANCE = RANDOM.uniform(1, 2, 3).astype(np.float32)


def _check(op: str, inputs: dict, attrs: dict) -> list[np.ndarray]:
    outputs = [np.asarray(x) for x in tf.nest.flatten(getattr(tf.raw_ops, op)(**inputs, **attrs))]
    wide = [np.asarray(x, np.float64) if np.asarray(x).dtype.kind == "f" else np.asarray(x) for x in inputs.values()]
    pairs = (without_placeholders(op, attrs, each) for each in (outputs, defined(op, wide, attrs)))
    for got, right in zip(*pairs, strict=True):
        assert got.shape == right.shape
        np.testing.assert_allclose(got, right, rtol=2e-6, atol=1e-5)
    return outputs


@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.parametrize("factor", [1.0, 0.1])
def test_batch_norm_and_its_gradient(is_training, factor):
    attrs = {"epsilon": 1e-3, "data_format": "NHWC", "is_training": is_training}
    inputs = {"x": X, "scale": SCALE, "offset": OFFSET, "mean": MEAN, "variance": VARIANCE}
    out = _check("FusedBatchNormV3", inputs, {**attrs, "exponential_avg_factor": factor})
    kept = {f"reserve_space_{at}": value for at, value in enumerate(out[3:], 1)}
    _check("FusedBatchNormGradV3", {"y_backprop": DY, "x": X, "scale": SCALE, **kept}, attrs)


def test_channels_first_is_the_same_moved():
    attrs = {"epsilon": 1e-3, "is_training": True}
    rest = [SCALE, OFFSET, MEAN, VARIANCE]
    last = defined("FusedBatchNormV3", [X.astype(np.float64), *rest], {**attrs, "data_format": "NHWC"})[0]
    moved = np.moveaxis(X.astype(np.float64), -1, 1)
    first = defined("FusedBatchNormV3", [moved, *rest], {**attrs, "data_format": "NCHW"})[0]
    np.testing.assert_allclose(np.moveaxis(first, 1, -1), last, rtol=1e-14)


def test_local_response_and_its_gradient():
    attrs = {"depth_radius": 1, "bias": 1.5, "alpha": 0.3, "beta": 0.6}
    (y,) = _check("LRN", {"input": X}, attrs)
    _check("LRNGrad", {"input_grads": DY, "input_image": X, "output_image": y}, attrs)


@pytest.mark.parametrize("aligned, centred", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(7, 13), (10, 12), (3, 2), (1, 1)])
def test_resizing_and_its_gradient(size, aligned, centred):
    attrs = {"align_corners": aligned, "half_pixel_centers": centred}
    (y,) = _check("ResizeBilinear", {"images": X, "size": np.array(size, np.int32)}, attrs)
    _check("ResizeBilinearGrad", {"grads": y, "original_image": X}, attrs)
    (scale,) = defined_scale("ResizeBilinear", [X.astype(np.float64), np.array(size)], attrs)
    assert np.all(scale >= np.abs(y) * (1 - 1e-6))


def test_contrast_and_values_by_hand():
    _check("AdjustContrastv2", {"images": X, "contrast_factor": np.float32(1.7)}, {})
    line = np.array([1.0, 3.0]).reshape(1, 1, 2, 1)
    doubled = defined("ResizeBilinear", [line, np.array([1, 4])], {"half_pixel_centers": True})[0]
    np.testing.assert_array_equal(doubled.ravel(), [1.0, 1.5, 2.5, 3.0])
    one, zero = np.ones(1), np.zeros(1)
    attrs = {"epsilon": 0.0, "data_format": "NHWC", "is_training": True}
    y, mean, variance, *kept = defined("FusedBatchNormV3", [line, one, zero, zero, one], attrs)
    assert (y.ravel().tolist(), mean, variance, kept[1]) == ([-1.0, 1.0], 2.0, 2.0, 1.0)  # over N - 1, and over N


@pytest.mark.parametrize("weights", [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
def test_what_variances_lose_does_not_cancel_in_every_sample(weights):
    """Channels are added up behind a norm: in one of four samples all that their variances lost counts."""
    attrs = {"epsilon": 1e-3, "data_format": "NHWC", "is_training": True}
    ones = np.ones(4)
    inputs = [np.array([[-3.0], [1.0]]).reshape(2, 1, 1, 1) * ones, ones, ones, ones, ones]
    variances = [defined("FusedBatchNormV3", inputs, attrs, 0.1, sample)[4] for sample in range(4)]
    lost = [float(np.dot(weights, each - 4.0)) for each in variances]
    assert max(map(abs, lost)) == pytest.approx(4 * 0.1 * 5)  # of a mean square of 5
