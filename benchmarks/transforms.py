"""Measure how far off a Winograd convolution is, and one of TF32 operands, in the units of the bound for transforms.

    python -m benchmarks.transforms

Images from dense to a few spots: log-normal values, a share of them kept, and one bright spot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.bounds import contraction_bound
from diag.numerics.formats import FLOAT32, TF32, round_to
from diag.numerics.normwise import transform_bound

SHAPE, TAPS = (2, 34, 34, 64), (3, 3, 64, 64)
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


def main() -> None:
    import tensorflow as tf

    from diag.engine.faults.winograd import filtered
    from diag.engine.graphs.graph import node_of
    from diag.engine.truth.truth import OpTruth

    def convolve(image: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(image, kernel, 1, "VALID")

    specs = [tf.TensorSpec(shape, tf.float32) for shape in (SHAPE, TAPS)]
    operations = tf.function(convolve).get_concrete_function(*specs).graph.get_operations()
    node = node_of(next(op for op in operations if op.type == "Conv2D"))
    kernel = (np.random.default_rng(1).standard_normal(TAPS) / 20).astype(np.float32)
    print(f"{'image':26} {'':9} {'u|A||B|: rms':>13} {'max':>9}   {'nearby: rms':>11} {'max':>9} {'excess':>8}")
    for name, image in images():
        inputs = [tf.constant(image), tf.constant(kernel)]
        truth = convolve(image.astype(np.float64), kernel.astype(np.float64)).numpy()
        scale, mixed = convolve(np.abs(image), np.abs(kernel)).numpy(), OpTruth().mixed_scale(node, inputs)
        assert mixed is not None
        rounded = [round_to(x.astype(np.float64), TF32).astype(np.float32) for x in (image, kernel)]
        outputs = {
            "plain": convolve(image, kernel).numpy(), "Winograd": filtered(image, kernel),
            "TF32": convolve(*rounded).numpy(),
        }  # fmt: skip
        for kind, output in outputs.items():
            plain = contraction_bound(output, truth, scale, np.prod(TAPS[:3]), FLOAT32)
            found = transform_bound(output, truth, mixed, FLOAT32)
            print(
                f"{name:26} {kind:9} {plain.rms:13.3g} {plain.max:9.3g}   {found.rms:11.3g} {found.max:9.3g} "
                f"{found.excess:8.2g}"
            )


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
