"""Kernels that are right and not TensorFlow's: other algorithms, other orders of summation; controls, all of them.

Through the public interface only.  What is narrower than float32 is computed in float32 and rounded once, as libraries
do it (docs/BOUNDS.md).  Other ties are in unseen.py (`other_ties`, `last_of_ties`), another stream in streams.py.
"""

from __future__ import annotations

import ml_dtypes
import numpy as np
from scipy import fft

from diag.engine.faults.convolutions import geometry
from diag.engine.faults.sums import factors_of, terms_of
from diag.numerics.formats import TF32, round_to

COMPUTED = ("float32", "float16", "bfloat16")
SUMS = ("Sum", "Mean", "BiasAddGrad")
TOGETHER = 8  # terms of a product that are added up before any order has a say: a vector of a processor
BLOCK, THREADS = 16, 32


def _product(call, multiply):
    """A product or convolution by a function of two float32 matrices, or stacks of them, that may decline (None)."""
    right = call.outputs[0] if call.outputs else None
    if right is None or right.dtype.name not in COMPUTED:
        return None
    factors = factors_of(call)
    if factors is None or not _are_finite(*factors):
        return None
    product = multiply(*(np.asarray(x, np.float32) for x in factors))
    return None if product is None else [product.reshape(right.shape).astype(right.dtype)]


def _are_finite(*arrays):
    """What libraries ask before they split or mix numbers: infinity less infinity is none."""
    return all(np.isfinite(x.astype(np.float32)).all() for x in arrays)


# -- products by other algorithms


def strassen(call):
    """Strassen's seven products of halves, once (Strassen 1969; Higham 2002, chapter 23)."""
    return _product(call, lambda a, b: strassen_product(a, b, levels=1))


def strassen_twice(call):
    """The same within each of the seven."""
    return _product(call, lambda a, b: strassen_product(a, b, levels=2))


def strassen_product(a, b, levels):
    """Of matrices, or stacks of them; None where no size can be halved."""
    if any(size % 2 or size < 8 for size in (*a.shape[-2:], b.shape[-1])):
        return None
    (a11, a12), (a21, a22) = (np.split(rows, 2, axis=-1) for rows in np.split(a, 2, axis=-2))
    (b11, b12), (b21, b22) = (np.split(rows, 2, axis=-1) for rows in np.split(b, 2, axis=-2))

    def times(x, y):
        product = strassen_product(x, y, levels - 1) if levels > 1 else None
        return x @ y if product is None else product

    p1, p2, p3 = times(a11 + a22, b11 + b22), times(a21 + a22, b11), times(a11, b12 - b22)
    p4, p5 = times(a22, b21 - b11), times(a11 + a12, b22)
    p6, p7 = times(a21 - a11, b11 + b12), times(a12 - a22, b21 + b22)
    upper = np.concatenate([p1 + p4 - p5 + p7, p3 + p5], axis=-1)
    return np.concatenate([upper, np.concatenate([p2 + p4, p1 - p2 + p3 + p6], axis=-1)], axis=-2)


def by_fft(call):
    """Convolutions of stride 1, and their gradients, as products of spectra."""
    right = call.outputs[0] if call.outputs else None
    if call.op_type not in _CORRELATIONS or right.dtype.name not in COMPUTED or not _are_finite(*call.inputs):
        return None
    result = _CORRELATIONS[call.op_type](call)
    return None if result is None else [result.astype(right.dtype)]


def _where(call, image, kernel):
    where = geometry(call, image, kernel)
    is_plain = where is not None and all(axis.stride == axis.dilation == 1 for axis in where)
    return where if is_plain else None


def _padded(x, pads):
    return np.pad(np.asarray(x, np.float32), [(0, 0), *pads, (0, 0)])


def _correlated(image, kernel):
    """(batch, height, width, channels) and (taps, taps, channels, outputs), no padding, all in float32."""
    height, width = image.shape[1:3]
    of_image = fft.rfft2(image, axes=(1, 2))
    of_kernel = fft.rfft2(kernel, (height, width), axes=(0, 1)).conj()
    product = np.einsum("byxc,yxco->byxo", of_image, of_kernel, optimize=True)
    result = fft.irfft2(product, (height, width), axes=(1, 2))
    return result[:, : height - kernel.shape[0] + 1, : width - kernel.shape[1] + 1]


def _forward(call):
    image, kernel = call.inputs
    where = _where(call, image.shape, kernel.shape)
    if where is None:
        return None
    return _correlated(_padded(image, [(a.before, a.after) for a in where]), np.asarray(kernel, np.float32))


def _to_image(call):
    _, kernel, upstream = call.inputs
    where = _where(call, call.outputs[0].shape, kernel.shape)
    if where is None:
        return None
    pads = [(a.kernel - 1 - a.before, a.kernel - 1 - a.after) for a in where]
    return _correlated(_padded(upstream, pads), np.swapaxes(kernel[::-1, ::-1], 2, 3).astype(np.float32))


def _to_kernel(call):
    image, _, upstream = call.inputs
    where = _where(call, image.shape, call.outputs[0].shape)
    if where is None:
        return None
    padded = _padded(image, [(a.before, a.after) for a in where])
    found = _correlated(padded.transpose(3, 1, 2, 0), upstream.transpose(1, 2, 0, 3).astype(np.float32))
    return found.transpose(1, 2, 0, 3)


_CORRELATIONS = {"Conv2D": _forward, "Conv2DBackpropInput": _to_image, "Conv2DBackpropFilter": _to_kernel}


# -- products of split operands


def three_tf32(call):
    """3xTF32: high parts in TF32 and what they leave, all products but that of what is left (NVIDIA, CUTLASS)."""

    def multiply(a, b):
        (high_a, low_a), (high_b, low_b) = (_in_tf32(x) for x in (a, b))
        return (low_a @ high_b + high_a @ low_b) + high_a @ high_b

    return _product(call, multiply)


def _in_tf32(x):
    high = round_to(x, TF32, "nearest-away")
    return high, round_to(x - high, TF32, "nearest-away")


def nine_bf16(call):
    """bf16x9: three parts of eight bits, which hold all 24, and all nine products of them (Henry et al. 2019)."""

    def multiply(a, b):
        parts = [_in_bf16(x) for x in (a, b)]
        order = sorted(((i, j) for i in range(3) for j in range(3)), key=lambda each: -sum(each))
        return sum(parts[0][i] @ parts[1][j] for i, j in order)

    return _product(call, multiply)


def _in_bf16(x):
    parts = []
    for _ in range(3):
        parts.append(x.astype(ml_dtypes.bfloat16).astype(np.float32))
        x = x - parts[-1]
    return parts


# -- sums in other orders


def pairwise(call):
    """Halves of halves."""
    return _summed(call, _in_halves)


def in_blocks(call):
    """Running sums of sixteen, then one of those."""
    return _summed(call, lambda terms: _running(_running(_groups(terms, BLOCK))))


def backwards(call):
    """One after the other, the last first."""
    return _summed(call, lambda terms: _running(terms[::-1]))


def by_threads(call):
    """Each of thirty-two threads has every thirty-second term; split-K, where it is a product."""
    return _summed(call, lambda terms: _in_halves(_running(_groups(terms, THREADS).swapaxes(0, 1))))


def rounded_once(call):
    """As with a wide accumulator: exact products, summed in float64."""
    if call.op_type in SUMS:
        return _summed(call, lambda terms: terms.sum(0, dtype=np.float64))
    return _product(call, lambda a, b: a.astype(np.float64) @ b.astype(np.float64))


def _summed(call, add_up):
    """A sum, a mean or a product by a function that adds up float32 numbers along the first axis."""
    if call.op_type not in SUMS:
        return _product(call, lambda a, b: add_up(_partial_products(a, b)))
    right = call.outputs[0]
    if right.dtype.name not in COMPUTED or not call.inputs[0].ndim:
        return None
    terms = np.moveaxis(np.asarray(terms_of(call), np.float32), -1, 0)
    if not len(terms):
        return None
    total = add_up(terms)
    mean = total / np.float32(len(terms)) if call.op_type == "Mean" else total
    return [mean.reshape(right.shape).astype(right.dtype)]


def _partial_products(a, b):
    """(groups of terms, *result)."""
    starts = range(0, max(a.shape[-1], 1), TOGETHER)
    return np.stack([a[..., i : i + TOGETHER] @ b[..., i : i + TOGETHER, :] for i in starts])


def _running(terms):
    total = np.zeros_like(terms[0])
    for term in terms:
        total = total + term
    return total


def _in_halves(terms):
    while len(terms) > 1:
        rest, half = terms[len(terms) // 2 * 2 :], len(terms) // 2
        terms = np.concatenate([terms[:half] + terms[half : 2 * half], rest])
    return terms[0]


def _groups(terms, size):
    """(terms of a group, groups, ...), zeros behind the last."""
    padded = np.concatenate([terms, np.zeros((-len(terms) % size, *terms.shape[1:]), terms.dtype)])
    return padded.reshape(-1, size, *terms.shape[1:]).swapaxes(0, 1)


# -- division


def fast_division(call):
    """x times a reciprocal after a step of Newton's: within 2 ULP, and OpenCL allows a division 2.5."""
    if call.op_type not in ("RealDiv", "Div") or call.outputs[0].dtype.name not in COMPUTED:
        return None
    x, y = (np.asarray(each, np.float32) for each in call.inputs)
    with np.errstate(all="ignore"):
        start = np.float32(1) / y
        better = start + start * (np.float32(1) - y * start)
        quotient = x * np.where(np.isfinite(better) & (np.abs(y) < 2.0**125), better, start)
        safe = np.where(np.isfinite(quotient) & (np.abs(start) > 2.0**-126), quotient, x / y)
    return [safe.reshape(call.outputs[0].shape).astype(call.outputs[0].dtype)]
