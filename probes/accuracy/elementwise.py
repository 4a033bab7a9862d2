"""The elementwise ops that a Keras model is made of, each with its function in float64.  No TensorFlow here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from probes.accuracy import truth

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Function:
    """An op applied element by element, with its truth and what its results may be held against.

    op, arguments, attributes: as `tf.raw_ops` has them.
    truth: float64 arrays, one an argument, to the float64 result.
    scale: size of the largest term of the textbook formula, where terms cancel: an error is held against an ULP of it
        if it is larger than the result.  exp(x) - 1 of a small x is made of terms of size 1.
    terms_ulp: where nothing is published: what the formula's operations may lose, in ULP of `scale`.
    exact: the result is one of the op's own numbers and must be just that.
    undefined: where nobody says what the result is, such as poles and the larger one of NaN and 1.
    exponents: of two-argument ops: binary exponents of the arguments, None for all there are.  Results and what
        leads to them stay in range.
    """

    op: str
    truth: Callable[..., Array]
    arguments: tuple[str, ...] = ("x",)
    attributes: Mapping[str, Any] = field(default_factory=dict)
    scale: Callable[..., Array] | None = None
    terms_ulp: float | None = None
    exact: bool = False
    undefined: Callable[..., npt.NDArray[np.bool_]] | None = None
    exponents: tuple[int, int] | None = None

    @property
    def call_text(self) -> str:
        """The call as Python text, its arguments under their own names."""
        given = [f"{name}={name}" for name in self.arguments]
        given += [f"{name}={value!r}" for name, value in self.attributes.items()]
        return f"tf.raw_ops.{self.op}({', '.join(given)})"


def _ones_below_zero(x: Array) -> Array:
    return np.where(x < 0, 1.0, 0.0)


def _nan_among(*arrays: Array) -> npt.NDArray[np.bool_]:
    return np.any([np.isnan(array) for array in arrays], axis=0)


def _tiny_remainder(x: Array, y: Array) -> npt.NDArray[np.bool_]:
    """A remainder that is flushed is taken for none, and y is not added; and no one says what x mod infinity is."""
    remainder = np.abs(np.fmod(x, y))
    return np.isinf(y) | ((remainder > 0) & (remainder < 2.0**-126))


_FEATURES = ("features",)
# fmt: off
UNARY: tuple[Function, ...] = (
    Function("Exp", np.exp),
    Function("Expm1", np.expm1),
    Function("Log", np.log),
    Function("Log1p", np.log1p),
    Function("Tanh", np.tanh),
    Function("Sigmoid", special.expit),
    Function("Softplus", truth.softplus, _FEATURES),
    Function("Softsign", truth.softsign, _FEATURES, undefined=np.isinf),  # inf / inf by its formula
    Function("Erf", special.erf),
    Function("Erfc", special.erfc),
    # kernels that start from (x + 1) / 2 have 1 there next to 1
    Function("Erfinv", special.erfinv, scale=truth.erfinv_slope, terms_ulp=16,
             undefined=lambda x: np.abs(np.abs(x) - 1) < 2.0**-22),
    Function("Rsqrt", truth.rsqrt),
    Function("Sqrt", np.sqrt),
    Function("Reciprocal", np.reciprocal),
    Function("Square", np.square),
    Function("Sin", np.sin),
    Function("Cos", np.cos),
    Function("Tan", np.tan),
    Function("Sinh", np.sinh),
    Function("Cosh", np.cosh),
    Function("Asin", np.arcsin),
    Function("Acos", np.arccos),
    Function("Atan", np.arctan),
    Function("Asinh", np.arcsinh),
    Function("Acosh", np.arccosh),
    Function("Atanh", np.arctanh),
    Function("Elu", truth.elu, _FEATURES, scale=_ones_below_zero, terms_ulp=6),
    Function("Selu", truth.selu, _FEATURES, scale=lambda x: truth.SELU_SCALE_ALPHA * _ones_below_zero(x), terms_ulp=6),
    Function("LeakyRelu", truth.leaky_relu, _FEATURES, {"alpha": truth.LEAK}),
    Function("Lgamma", truth.lgamma, scale=truth.lgamma_terms, terms_ulp=16, undefined=truth.at_pole),
    Function("Digamma", truth.digamma, scale=truth.digamma_terms, terms_ulp=16, undefined=truth.at_pole),
    Function("Relu", truth.relu, _FEATURES, exact=True),
    Function("Relu6", truth.relu6, _FEATURES, exact=True),
    Function("Neg", np.negative, exact=True),
    Function("Abs", np.abs, exact=True),
    Function("Sign", np.sign, exact=True),
    Function("Floor", np.floor, exact=True),
    Function("Ceil", np.ceil, exact=True),
    Function("Round", np.rint, exact=True),
    Function("Rint", np.rint, exact=True),
)
# fmt: on

_XY, _DY = ("x", "y"), ("y", "dy")
_GRADIENT = (-8, 8)  # exponents: three factors stay within float16 in the middle of the range
BINARY: tuple[Function, ...] = (
    Function("AddV2", np.add, _XY),
    Function("Sub", np.subtract, _XY),
    Function("Mul", np.multiply, _XY),
    Function("MulNoNan", truth.mul_no_nan, _XY),
    Function("RealDiv", np.divide, _XY),
    Function("DivNoNan", truth.div_no_nan, _XY),
    Function("SquaredDifference", lambda x, y: np.square(x - y), _XY),
    Function("Pow", np.power, _XY),
    Function("Atan2", np.arctan2, ("y", "x")),
    Function("FloorMod", truth.floor_mod, _XY, terms_ulp=2, undefined=_tiny_remainder),
    Function("Maximum", np.maximum, _XY, exact=True, undefined=_nan_among),
    Function("Minimum", np.minimum, _XY, exact=True, undefined=_nan_among),
    Function("Xlogy", special.xlogy, _XY, undefined=_nan_among),
    Function("Xlog1py", special.xlog1py, _XY, undefined=_nan_among),
    Function("Xdivy", truth.xdivy, _XY, undefined=_nan_among),
)
GRADIENTS: tuple[Function, ...] = (
    Function("TanhGrad", lambda y, dy: dy * (1 - y * y), _DY, exponents=(-8, 0),
             scale=lambda y, dy: np.abs(dy) * (1 + y * y), terms_ulp=4),
    Function("SigmoidGrad", lambda y, dy: dy * y * (1 - y), _DY, exponents=(-8, 0),
             scale=lambda y, dy: np.abs(dy * y) * (1 + np.abs(y)), terms_ulp=4),
    Function("SqrtGrad", lambda y, dy: dy * 0.5 / y, _DY, exponents=_GRADIENT),
    Function("RsqrtGrad", lambda y, dy: dy * -0.5 * y * y * y, _DY, exponents=(-4, 3), terms_ulp=4),
    Function("ReciprocalGrad", lambda y, dy: -dy * y * y, _DY, exponents=(-4, 4), terms_ulp=4),
    Function("SoftplusGrad", lambda g, x: g * special.expit(x), ("gradients", "features"), exponents=(-8, 2),
             terms_ulp=8),
    Function("SoftsignGrad", lambda g, x: g / np.square(1 + np.abs(x)), ("gradients", "features"), exponents=(-8, 4),
             terms_ulp=8),
    Function("EluGrad", lambda g, y: g * np.where(y < 0, y + 1, 1), ("gradients", "outputs"), exponents=(-8, 0),
             scale=lambda g, y: np.abs(g) * (1 + np.abs(y)), terms_ulp=4),
    Function("SeluGrad", truth.selu_grad, ("gradients", "outputs"), exponents=(-8, 0),
             scale=lambda g, y: np.abs(g) * (truth.SELU_SCALE_ALPHA + np.abs(y)), terms_ulp=4),
    Function("LeakyReluGrad", lambda g, x: g * np.where(x > 0, 1.0, truth.LEAK), ("gradients", "features"),
             {"alpha": truth.LEAK}, exponents=_GRADIENT),
    Function("ReluGrad", lambda g, x: g * (x > 0), ("gradients", "features"), exact=True, exponents=_GRADIENT),
    Function("Relu6Grad", lambda g, x: g * ((x > 0) & (x < 6)), ("gradients", "features"), exact=True,
             exponents=_GRADIENT),
)  # fmt: skip
FUNCTIONS = UNARY + BINARY + GRADIENTS
