"""Ops that TensorFlow has no float64 kernel of, from their definitions, in float64 and without TensorFlow.

Sources: tf.raw_ops.FusedBatchNormV3 and FusedBatchNormGradV3 (core/kernels/fused_batch_norm_op.cc: the result is
normalized by the variance over N, the one handed on is over N - 1), tf.nn.local_response_normalization,
tf.compat.v1.image.resize_bilinear (core/util/image_resizer_state.h), tf.image.adjust_contrast.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Arrays: TypeAlias = Sequence[npt.NDArray[Any]]
Attributes: TypeAlias = Mapping[str, Any]


def has_definition(op_type: str) -> bool:
    return op_type in _DEFINITIONS


def defined(
    op_type: str, inputs: Arrays, attrs: Attributes, lost: float = 0.0, sample: int = 0
) -> list[npt.NDArray[Any]]:
    """An op's outputs; floating inputs are float64.

    lost: so much of the mean square is added to a variance of the batch, or taken from it.  One rounding is what a
    variance loses that is the mean square less the square of the mean, as XLA has it (Chan, Golub and LeVeque 1983).
    sample: in which channels it is added, another half of them in each of 1, 2 and 3, and in all of them in 0: what
    cancels in one sample, where channels are added up, does not in the next.

    Raises:
      KeyError: there is no definition of it (`has_definition`).
    """
    with np.errstate(all="ignore"):
        return _DEFINITIONS[op_type](inputs, {**attrs, _LOST: lost, _SAMPLE: sample})


_LOST, _SAMPLE = "lockstep_lost", "lockstep_sample"


def private_outputs(op_type: str) -> range | None:
    """Outputs that only another kernel of the same device can read, all of them where it reads such ones; None of most.

    What FusedBatchNorm hands to its gradient is mean and variance on a CPU, mean and inverse deviation under cuDNN.
    """
    if not op_type.startswith("FusedBatchNorm"):
        return None
    return range(0 if "Grad" in op_type else 3, 6)


def without_placeholders(op_type: str, attrs: Attributes, outputs: Arrays) -> list[npt.NDArray[Any]]:
    """An op's outputs; those that hold nothing are empty, whatever shape and numbers a kernel leaves in them.

    oneDNN's FusedBatchNormV3 has an empty sixth one where TensorFlow's own, and all of float16, has a scalar; of the
    gradient's last two it is the other way round.  What is kept for the gradient is unwritten where nothing is trained.
    """
    if not op_type.startswith("FusedBatchNorm"):
        return list(outputs)
    first = 3 if "Grad" in op_type or not attrs["is_training"] else 5
    return [x.reshape(-1)[:0] if index >= first else x for index, x in enumerate(outputs)]


def defined_scale(op_type: str, inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    """|A||B| of an op that is linear in its first input: what each element's rounding is a part of."""
    absolute = [np.abs(inputs[0]), *inputs[1:]]
    return [_resized_by(_near_weights, op_type, absolute, attrs)]


# -- batch normalization -----------------------------------------------------------------------


def _channels_last(x: Floats, attrs: Attributes) -> Floats:
    return np.moveaxis(x, 1, -1) if attrs["data_format"].startswith("NC") else x


def _as_it_was(x: Floats, attrs: Attributes) -> Floats:
    return np.moveaxis(x, -1, 1) if attrs["data_format"].startswith("NC") else x


def _mean(x: Floats) -> Floats:
    return np.asarray(x.reshape(-1, x.shape[-1]).mean(axis=0))


def _signs(number: int, sample: int) -> Floats:
    """Rows of a Walsh matrix: any two of the four samples differ in half of the channels."""
    channels = np.arange(number)
    return np.asarray((-1.0) ** ((channels & sample & 1) + ((channels & sample & 2) >> 1)))


def _batch_norm(inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    """y, mean, variance, then what the gradient op is handed: mean and variance over N; V3 has an empty one."""
    x, (scale, offset, old_mean, old_variance) = _channels_last(inputs[0], attrs), inputs[1:5]
    mean, variance = old_mean, old_variance
    kept = [old_mean, old_variance]
    if attrs["is_training"]:
        num, part = max(x.size // max(x.shape[-1], 1), 1), float(attrs.get("exponential_avg_factor", 1.0))
        mean = _mean(x)
        signs = _signs(x.shape[-1], attrs[_SAMPLE])
        variance = np.maximum(_mean(np.square(x - mean)) + attrs[_LOST] * signs * _mean(np.square(x)), 0.0)
        kept = [mean, variance * (num / max(num - 1, 1))]
        if part != 1.0:
            kept = [(1 - part) * old + part * new for old, new in zip((old_mean, old_variance), kept, strict=True)]
    y = (x - mean) / np.sqrt(variance + float(attrs["epsilon"])) * scale + offset
    return [_as_it_was(y, attrs), *kept, mean, variance, np.zeros(0)]


def _batch_norm_gradient(inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    """Of x, scale and offset, and two that hold nothing; the statistics are those that came from the forward op."""
    dy, x = (_channels_last(each, attrs) for each in inputs[:2])
    scale, mean, variance = inputs[2:5]
    root = np.sqrt(variance + float(attrs["epsilon"]))
    normal = (x - mean) / root
    offset_gradient, scale_gradient = _mean(dy), _mean(dy * normal)
    dx = dy * scale / root
    if attrs["is_training"]:
        dx = (dy - offset_gradient - normal * scale_gradient) * scale / root
    num = x.size // max(x.shape[-1], 1)
    return [_as_it_was(dx, attrs), num * scale_gradient, num * offset_gradient, np.zeros(0), np.zeros(0)]


# -- local response normalization --------------------------------------------------------------


def _nearby(x: Floats, radius: int) -> Floats:
    """The sum over so many neighbours to each side along the last axis."""
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * radius + 1, axis=-1)
    return np.asarray(windows.sum(axis=-1))


def _norms(x: Floats, attrs: Attributes) -> Floats:
    return float(attrs["bias"]) + float(attrs["alpha"]) * _nearby(np.square(x), int(attrs["depth_radius"]))


def _local_response(inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    (x,) = inputs
    return [x * _norms(x, attrs) ** -float(attrs["beta"])]


def _local_response_gradient(inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    dy, x, y = inputs
    norms, beta = _norms(x, attrs), float(attrs["beta"])
    shared = _nearby(dy * y / norms, int(attrs["depth_radius"]))
    return [dy * norms**-beta - 2 * float(attrs["alpha"]) * beta * x * shared]


# -- images ------------------------------------------------------------------------------------


def _contrast(inputs: Arrays, attrs: Attributes) -> list[npt.NDArray[Any]]:
    images, factor = inputs
    mean = images.mean(axis=(-3, -2), keepdims=True)
    return [(images - mean) * factor + mean]


def _weights(num_in: int, num_out: int, attrs: Attributes) -> Floats:
    """(out, in): how much of each pixel of a row a pixel of the resized row is."""
    aligned, centred = bool(attrs.get("align_corners")), bool(attrs.get("half_pixel_centers"))
    step = (num_in - 1) / (num_out - 1) if aligned and num_out > 1 else num_in / num_out
    places = np.arange(num_out)
    at = (places + 0.5) * step - 0.5 if centred else places * step
    low = np.floor(at).astype(np.int64)
    share = at - low
    weights = np.zeros((num_out, num_in))
    np.add.at(weights, (places, np.clip(low, 0, num_in - 1)), 1 - share)
    np.add.at(weights, (places, np.clip(np.ceil(at).astype(np.int64), 0, num_in - 1)), share)
    return weights


def _near_weights(num_in: int, num_out: int, attrs: Attributes) -> Floats:
    """The weights, and what rounding of a place in a long row moves from a pixel to the next.

    A place of size n is off by u n in float32, so two neighbours' shares are; contractions are allowed 8 u |A||B|.
    """
    weights = _weights(num_in, num_out, attrs)
    beside = np.zeros_like(weights)
    beside[:, :-1] += weights[:, 1:]
    beside[:, 1:] += weights[:, :-1]
    return weights + (weights + beside) * max(num_in, num_out) / 8


def _resized_by(make: Callable[[int, int, Attributes], Floats], op: str, inputs: Arrays, attrs: Attributes) -> Floats:
    """Rows and columns of (batch, height, width, channels), or of gradients back to the size of the second input."""
    images, other = inputs
    is_gradient = op.endswith("Grad")
    sizes = other.shape[1:3] if is_gradient else tuple(int(size) for size in other)
    for axis, size in zip((1, 2), sizes, strict=True):
        num = images.shape[axis]
        weights = make(size, num, attrs).T if is_gradient else make(num, size, attrs)
        images = np.moveaxis(np.tensordot(weights, images, (1, axis)), 0, axis)
    return np.asarray(images)


def _resized(op: str) -> Definition:
    return lambda inputs, attrs: [_resized_by(_weights, op, inputs, attrs)]


Definition: TypeAlias = Callable[[Arrays, Attributes], list[npt.NDArray[Any]]]
_DEFINITIONS: dict[str, Definition] = {
    **{f"FusedBatchNorm{version}": _batch_norm for version in ("", "V2", "V3")},
    **{f"FusedBatchNormGrad{version}": _batch_norm_gradient for version in ("", "V2", "V3")},
    "LRN": _local_response,
    "LRNGrad": _local_response_gradient,
    "AdjustContrastv2": _contrast,
    **{op: _resized(op) for op in ("ResizeBilinear", "ResizeBilinearGrad")},
}
