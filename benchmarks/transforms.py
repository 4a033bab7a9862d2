"""Measure how far off transforms and fast products are, and TF32, in the units of the bounds for what is right in norm.

    python -m benchmarks.transforms

Winograd convolutions of images from dense to a few spots: log-normal values, a share of them kept, and one bright spot.
Strassen products of one level and two, of matrices from alike to rows and columns of very different size.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.bounds import contraction_bound, lost_in_order
from diag.numerics.figures import Bound
from diag.numerics.formats import FLOAT32, TF32, round_to
from diag.numerics.normwise import fast_product_bound, product_norms, transform_bound
from diag.numerics.terms import Terms

SHAPE, TAPS = (2, 34, 34, 64), (3, 3, 64, 64)
SIZES = ((32, 32, 32), (8, 64, 16), (64, 1024, 64), (512, 512, 512), (16, 4096, 16), (4096, 16, 64))
FEW = {"1 wrong": (1, 1), "2 wrong": (1, [1, 5]), "2x2 wrong": np.s_[:2, :2], "half a row": np.s_[1, ::2]}
SAMPLED = 64  # elements whose plain sums are made
Floats = npt.NDArray[Any]


def images() -> Iterator[tuple[str, Floats]]:
    random = np.random.default_rng(0)
    for sigma in (0.5, 2, 3):
        for kept in (1, 0.2, 0.02):
            values = random.lognormal(0, sigma, SHAPE) * (random.random(SHAPE) < kept)
            yield f"log-normal {sigma:g}, {kept:.0%} kept", values.astype(np.float32)
    dense = np.abs(random.standard_normal(SHAPE)).astype(np.float32)
    for name, channels, factor in (("a bright spot", slice(None), 1e3), ("a spot in one channel", slice(3, 4), 1e6)):
        spotted = dense.copy()
        spotted[:, 10:12, 10:12, channels] *= np.float32(factor)
        yield name, spotted


def convolutions() -> Iterator[tuple[str, str, Bound, Bound]]:
    """Image, kernel that computed it, and the bounds by element and in norm."""
    import tensorflow as tf

    from diag.engine.faults.winograd import filtered
    from diag.engine.graphs.graph import node_of
    from diag.engine.truth.op_truth import OpTruth

    def convolve(image: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(image, kernel, 1, "VALID")

    specs = [tf.TensorSpec(shape, tf.float32) for shape in (SHAPE, TAPS)]
    operations = tf.function(convolve).get_concrete_function(*specs).graph.get_operations()
    node = node_of(next(op for op in operations if op.type == "Conv2D"))
    kernel = (np.random.default_rng(1).standard_normal(TAPS) / 20).astype(np.float32)
    for name, image in images():
        inputs = [tf.constant(image), tf.constant(kernel)]
        truth = convolve(image.astype(np.float64), kernel.astype(np.float64)).numpy()
        scale, mixed = convolve(np.abs(image), np.abs(kernel)).numpy(), OpTruth().mixed_scale(node, inputs)
        assert mixed is not None
        outputs = {
            "plain": convolve(image, kernel).numpy(), "Winograd": filtered(image, kernel),
            "TF32": convolve(_in_tf32(image), _in_tf32(kernel)).numpy(),
        }  # fmt: skip
        for kind, output in outputs.items():
            plain = contraction_bound(output, truth, scale, np.prod(TAPS[:3]), FLOAT32)
            yield name, kind, plain, transform_bound(output, truth, mixed, FLOAT32)


def matrices(m: int, k: int, n: int) -> Iterator[tuple[str, Floats, Floats]]:
    """Factors (m, k) and (k, n), by name."""
    random = np.random.default_rng(0)
    a, b = random.standard_normal((m, k)), random.standard_normal((k, n))
    row, column, inner = (np.where(np.arange(size) == size // 3, 1e3, 1.0) for size in (m, n, k))
    yield "normal", a, b
    yield "positive", np.abs(a), np.abs(b)
    yield "rectified", np.maximum(a, 0), b
    yield "sparse", a * (random.random((m, k)) < 0.05), b
    yield "half of the rows 0", a * (np.arange(m) < m // 2)[:, None], b
    yield "a large row", a * row[:, None], b
    yield "a large element", a * np.where(row[:, None] * inner > 1e5, 1e4, 1.0), b
    yield "row, column", a * row[:, None], b * column
    yield "compensated", a * inner, b / inner[:, None]
    yield "rows 1e-4 to 1e4", a * 10.0 ** random.uniform(-4, 4, (m, 1)), b
    for sigma in (2, 3):
        yield f"log-normal {sigma}", random.lognormal(0, sigma, (m, k)) * np.sign(a), b
    yield "both log-normal 3", *(random.lognormal(0, 3, x.shape) * np.sign(x) for x in (a, b))


def products() -> Iterator[tuple[str, str, Bound, Bound]]:
    """Matrices, kernel that multiplied them, and the bounds by element and in norm."""
    from tests.faults.healthy import strassen_product

    random = np.random.default_rng(1)
    for m, k, n in SIZES:
        for name, *factors in matrices(m, k, n):
            a, b = (x.astype(np.float32) for x in factors)
            wide_a, wide_b = (x.astype(np.float64) for x in (a, b))
            truth, scale, norms = wide_a @ wide_b, np.abs(wide_a) @ np.abs(wide_b), product_norms(wide_a, wide_b)
            at = random.integers(0, m, SAMPLED), random.integers(0, n, SAMPLED)
            lost = lost_in_order(Terms(wide_a[at[0]], wide_b.T[at[1]], ()), FLOAT32)
            outputs = {"plain": a @ b, "TF32": _in_tf32(a) @ _in_tf32(b)}
            outputs |= {name: _with_wrong(outputs["plain"], where) for name, where in FEW.items()}
            outputs |= {f"Strassen {levels}": strassen_product(a, b, levels) for levels in (1, 2)}
            for kind, output in outputs.items():
                by_element = contraction_bound(output, truth, scale, k, FLOAT32, lost)
                in_norm = fast_product_bound(output, truth, scale, norms, FLOAT32, lost)
                yield f"{m}x{k}x{n} {name}", kind, by_element, in_norm


def _with_wrong(product: Floats, where: Any) -> Floats:
    """A product of which a few elements are off by 2^-12 of the rms of all."""
    wrong = product.copy()
    wrong[where] += np.float32(2.0**-12 * np.sqrt(np.mean(np.square(product.astype(np.float64)))))
    return wrong


def _in_tf32(x: Floats) -> Floats:
    return round_to(x.astype(np.float64), TF32).astype(np.float32)


def main() -> None:
    print(f"{'of':32} {'by':11} {'u|A||B|: rms':>13} {'max':>9}   {'in norm: rms':>12} {'max':>9} {'excess':>8}")
    for name, kind, by_element, in_norm in (*convolutions(), *products()):
        print(
            f"{name:32} {kind:11} {by_element.rms:13.3g} {by_element.max:9.3g}   "
            f"{in_norm.rms:12.3g} {in_norm.max:9.3g} {in_norm.excess:8.2g}"
        )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
