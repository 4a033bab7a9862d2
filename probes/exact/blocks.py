"""Blocks of ops that a compiler or a graph rewriter fuses, on integers: layers as Keras makes them, and gradients.

A fused kernel is seen only where nothing inside it is asked for, so each block gives its result alone.  Inputs of
functions such as elu are multiples of 16 or 32: there they are what they tend to, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from probes.exact import oracles
from probes.exact.case import Case, case, share_of, sparse
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

DENSE = ((17, 33, 15), (1, 128, 64), (129, 31, 2), (32, 64, 32))  # rows, inputs, outputs
IMAGES = ((2, 8, 9, 3, 16), (1, 15, 17, 32, 32), (3, 4, 4, 5, 33))  # batch, height, width, inputs, outputs
ACTIVATIONS: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray], int]] = {
    "relu": ("tf.nn.relu", lambda y: np.maximum(y, 0), 1),
    "relu6": ("tf.nn.relu6", lambda y: np.clip(y, 0, 6), 1),
    "leaky relu": ("(lambda y: tf.nn.leaky_relu(y, 0.25))", lambda y: np.where(y > 0, y, y / 4), 1),
    "elu": ("tf.nn.elu", lambda y: np.where(y > 0, y, -(y < 0).astype(float)), 32),
    "tanh": ("tf.nn.tanh", np.sign, 16),
    "sigmoid": ("tf.nn.sigmoid", lambda y: np.where(y == 0, 0.5, y > 0), 32),
    "gelu": ("(lambda y: tf.nn.gelu(y, approximate=False))", lambda y: np.maximum(y, 0), 16),
    "approximate gelu": ("(lambda y: tf.nn.gelu(y, approximate=True))", lambda y: np.maximum(y, 0), 16),
}
"""Text, what it is on multiples of the number that stands last."""
TENDS_TO = ("elu", "tanh", "sigmoid", "gelu", "approximate gelu")
DENSE_SWEEPS = {
    **{f"bias and {name}": (name,) for name in ("relu", "relu6", "leaky relu", "elu")},
    "bias and a smooth activation": TENDS_TO[1:],
}
PLAIN = oracles.Geometry((1, 1), "SAME", (1, 1))
ULPS = 16.0
"""OpenCL's full profile allows erf and pow 16 ULP, the widest of what stands in these functions."""


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for name, members in DENSE_SWEEPS.items():
            cases = [dense(*sizes, each, dtype) for sizes in DENSE for each in members]
            yield sweep("Dense", dtype, name, only_some(choice, cases, dtype))
        for name in ("relu", "relu6"):
            cases = [convolution(sizes, name, dtype) for sizes in IMAGES]
            yield sweep("Conv2D layer", dtype, f"bias and {name}", only_some(choice, cases, dtype))
        for op, cases in (
            ("gradient of Dense", [dense_gradient(*sizes, name, dtype) for sizes in DENSE for name in ("relu", "elu")]),
            ("gradient of Conv2D layer", [convolution_gradient(*sizes, dtype) for sizes in IMAGES]),
            ("two Dense layers", [two_dense(*sizes, dtype) for sizes in DENSE]),
            ("residual block", [residual(*sizes, dtype) for sizes in IMAGES]),
            ("Conv2D and BatchNormalization", [normalized(*sizes, dtype) for sizes in IMAGES]),
            ("SeparableConv2D", [separable(*sizes, dtype) for sizes in IMAGES]),
            ("softmax", [equal_logits(*sizes) for sizes in ((3, 16), (129, 2), (1, 1024), (17, 64))]),
            ("attention", [attention(*sizes, dtype) for sizes in ((2, 8, 4), (1, 16, 33), (3, 32, 17))]),
        ):
            yield sweep(op, dtype, "shapes", only_some(choice, cases, dtype))


def dense(rows: int, inputs: int, outputs: int, name: str, dtype: str) -> Case:
    share = share_of(inputs, dtype)
    text, activation, unit = ACTIVATIONS[name]
    return case(
        f"{rows} x {inputs} to {outputs}, {name}", f"{text}(tf.nn.bias_add(tf.linalg.matmul(x, w), b))",
        {"x": f"{unit} * {sparse(rows, (rows, inputs), share)}", "w": sparse(inputs, (inputs, outputs), share),
         "b": f"{unit} * {sparse(outputs, (outputs,))}"},
        lambda x, w, b: activation(x @ w + b), axes=("row", "column"), ulps=ULPS if name in TENDS_TO else 0.0,
    )  # fmt: skip


def dense_gradient(rows: int, inputs: int, outputs: int, activation: str, dtype: str) -> Case:
    """The result, and gradients to the inputs, the kernel and the bias; elu's is 1 or, from far below zero, 0."""
    share = share_of(max(rows, inputs, outputs), dtype)
    text, function, unit = ACTIVATIONS[activation]

    def oracle(x: np.ndarray, w: np.ndarray, b: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
        y = x @ w + b
        passed = g * (y >= 0 if activation == "elu" else y > 0)
        return [function(y), passed @ w.T, x.T @ passed, passed.sum(0)]

    body = (
        "with tf.GradientTape() as tape:\n    tape.watch([x, w, b])\n"
        f"    y = {text}(tf.nn.bias_add(tf.linalg.matmul(x, w), b))\n"
        "return [y, *tape.gradient(y, [x, w, b], output_gradients=g)]"
    )
    return case(
        f"{rows} x {inputs} to {outputs}, {activation}", body,
        {"x": f"{unit} * {sparse(1, (rows, inputs), share)}", "w": sparse(2, (inputs, outputs), share),
         "b": f"{unit} * {sparse(3, (outputs,))}", "g": sparse(4, (rows, outputs), share)}, oracle,
        ulps=ULPS if activation in TENDS_TO else 0.0,
    )  # fmt: skip


def two_dense(rows: int, inputs: int, outputs: int, dtype: str) -> Case:
    share = share_of(16 * inputs, dtype)
    body = (
        "h = tf.nn.relu(tf.nn.bias_add(tf.linalg.matmul(x, w), b))\n"
        "return tf.nn.relu(tf.nn.bias_add(tf.linalg.matmul(h, v), b))"
    )
    return case(
        f"{rows} x {inputs} to {outputs} to {outputs}", body,
        {"x": sparse(1, (rows, inputs), share), "w": sparse(2, (inputs, outputs), share),
         "v": sparse(3, (outputs, outputs), share), "b": sparse(4, (outputs,), 0.1)},
        lambda x, w, v, b: np.maximum(np.maximum(x @ w + b, 0) @ v + b, 0), axes=("row", "column"),
    )  # fmt: skip


def _image(batch: int, height: int, width: int, inputs: int, outputs: int, dtype: str) -> tuple[str, str]:
    share = share_of(9 * max(inputs, outputs), dtype)
    return sparse(1, (batch, height, width, inputs), share), sparse(2, (3, 3, inputs, outputs), share)


def _convolved(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    return oracles.convolution(x, w, PLAIN)


def _label(sizes: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, sizes[:4]))} to {sizes[4]}"


_AXES = ("batch", "height", "width", "channel")
_CONV = 'tf.nn.conv2d(x, w, 1, "SAME")'


def convolution(sizes: tuple[int, int, int, int, int], name: str, dtype: str) -> Case:
    x, w = _image(*sizes, dtype)
    text, activation, _ = ACTIVATIONS[name]
    return case(
        _label(sizes), f"{text}(tf.nn.bias_add({_CONV}, b))",
        {"x": x, "w": w, "b": sparse(3, sizes[-1:])}, lambda x, w, b: activation(_convolved(x, w) + b), axes=_AXES,
        tolerates=True, scale=lambda x, w, b: _convolved(x, w) + b,
    )  # fmt: skip


def convolution_gradient(batch: int, height: int, width: int, inputs: int, outputs: int, dtype: str) -> Case:
    """The bias is between integers, so that no rounding of a transform decides what is above zero."""
    share = share_of(max(9 * inputs, 9 * outputs, batch * height * width), dtype)

    def oracle(x: np.ndarray, w: np.ndarray, b: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
        passed = g * (_convolved(x, w) + b > 0)
        return [
            oracles.gradient_to_image(passed, w, x.shape, PLAIN),
            oracles.gradient_to_kernel(x, passed, w.shape, PLAIN),
            passed.sum((0, 1, 2)),
        ]

    body = (
        "with tf.GradientTape() as tape:\n    tape.watch([x, w, b])\n"
        f"    y = tf.nn.relu(tf.nn.bias_add({_CONV}, b))\n"
        "return tape.gradient(y, [x, w, b], output_gradients=g)"
    )
    return case(
        _label((batch, height, width, inputs, outputs)), body,
        {"x": sparse(1, (batch, height, width, inputs), share), "w": sparse(2, (3, 3, inputs, outputs), share),
         "b": f"{sparse(3, (outputs,))} + 0.5", "g": sparse(4, (batch, height, width, outputs), share)}, oracle,
        tolerates=True,
    )  # fmt: skip


def residual(batch: int, height: int, width: int, inputs: int, outputs: int, dtype: str) -> Case:
    x, w = _image(batch, height, width, inputs, inputs, dtype)
    return case(
        _label((batch, height, width, inputs, inputs)), f"tf.nn.relu(tf.nn.bias_add({_CONV}, b) + x)",
        {"x": x, "w": w, "b": sparse(3, (inputs,))}, lambda x, w, b: np.maximum(_convolved(x, w) + b + x, 0),
        axes=_AXES, tolerates=True,
    )  # fmt: skip


def normalized(batch: int, height: int, width: int, inputs: int, outputs: int, dtype: str) -> Case:
    """As in inference: variance 4 - epsilon, so that all is halved."""
    x, w = _image(batch, height, width, inputs, outputs, dtype)
    body = (
        f"y, ones = {_CONV}, tf.ones([{outputs}])\n"
        "return tf.nn.relu(tf.raw_ops.FusedBatchNormV3(x=y, scale=2 * ones, offset=ones, mean=-ones, "
        "variance=3.75 * ones, epsilon=0.25, is_training=False)[0])"
    )
    return case(
        _label((batch, height, width, inputs, outputs)), body, {"x": x, "w": w},
        lambda x, w: np.maximum(_convolved(x, w) + 2, 0), axes=_AXES, ulps=ULPS,
    )  # fmt: skip


def separable(batch: int, height: int, width: int, inputs: int, outputs: int, dtype: str) -> Case:
    share = share_of(9 * inputs, dtype, 3)
    return case(
        _label((batch, height, width, inputs, outputs)),
        'tf.nn.relu(tf.nn.separable_conv2d(x, w, v, [1, 1, 1, 1], "SAME"))',
        {"x": sparse(1, (batch, height, width, inputs), share), "w": sparse(2, (3, 3, inputs, 1), share),
         "v": sparse(3, (1, 1, inputs, outputs), share)},
        lambda x, w, v: np.maximum(oracles.depthwise(x, w, PLAIN) @ v[0, 0], 0), axes=_AXES,
    )  # fmt: skip


def equal_logits(rows: int, classes: int) -> Case:
    return case(
        f"{rows} rows of {classes} equal logits", "tf.nn.softmax(x)",
        {"x": f"np.random.RandomState(1).randint(-100, 100, ({rows}, 1)) + np.zeros((1, {classes}))"},
        lambda x: np.full_like(x, 1 / x.shape[1]), axes=("row", "class"), ulps=ULPS,
    )  # fmt: skip


def attention(batch: int, length: int, width: int, dtype: str) -> Case:
    """Queries that are all zeros look at every key alike: the mean of the values."""
    share = share_of(length, dtype, 1)
    return case(
        f"{batch} x {length} x {width}", "tf.linalg.matmul(tf.nn.softmax(tf.linalg.matmul(q, k, transpose_b=True)), v)",
        {"q": f"np.zeros(({batch}, {length}, {width}))", "k": sparse(1, (batch, length, width)),
         "v": sparse(2, (batch, length, width), share)},
        lambda _q, _k, v: np.broadcast_to(v.mean(1, keepdims=True), v.shape), ulps=ULPS,
    )  # fmt: skip
