"""Float64 functions against mpmath: small, large, next to where they vanish or have no end, and glibc's hardest."""

from __future__ import annotations

import math

import mpmath
import numpy as np
import pytest

from probes.accuracy import truth
from probes.accuracy.elementwise import BINARY, GRADIENTS, UNARY
from probes.accuracy.samples import float32_of

# 2^-21 of float32's ULP: far below what is printed, and below what any kernel could tell from exact
FARTHEST = 2.0**-45
BY_OP = {function.op: function for function in (*UNARY, *BINARY, *GRADIENTS)}

HARDEST = [0x3E6EE50C, 0x3ED413DA, 0x3F563109, 0x3F0063E6, 0x3F7FFFFF, 0x00800000, 0x33800000]
MODERATE = [*float32_of(HARDEST).astype(np.float64).tolist(), 0.1, -0.7, 0.99]
ABOVE_ONE = [1.0000001192092896, 1.5, 7.25, 88.72283172607422, 3.0e5]
BELOW_ZERO = [-1e-7, -0.3, -2.4570248126983643, -5.5, -16.6, -87.3]
HUGE = [3.4e38, -1e30, 2.90009974e21, 4.49618222e15, 65504.0, 1e10, 11.0, 355.0, 103993.0]

EXACT = {
    "Exp": mpmath.exp, "Expm1": mpmath.expm1, "Log": mpmath.log, "Log1p": mpmath.log1p, "Tanh": mpmath.tanh,
    "Sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)), "Softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "Softsign": lambda x: x / (1 + abs(x)), "Erf": mpmath.erf, "Erfc": mpmath.erfc, "Erfinv": mpmath.erfinv,
    "Rsqrt": lambda x: 1 / mpmath.sqrt(x), "Sqrt": mpmath.sqrt, "Reciprocal": lambda x: 1 / x,
    "Square": lambda x: x * x,
    "Sin": mpmath.sin, "Cos": mpmath.cos, "Tan": mpmath.tan, "Sinh": mpmath.sinh, "Cosh": mpmath.cosh,
    "Asin": mpmath.asin, "Acos": mpmath.acos, "Atan": mpmath.atan, "Asinh": mpmath.asinh, "Acosh": mpmath.acosh,
    "Atanh": mpmath.atanh, "Elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "Lgamma": lambda x: mpmath.loggamma(x).real, "Digamma": mpmath.digamma,
}  # fmt: skip
DOMAIN = {
    **dict.fromkeys(["Log", "Rsqrt", "Sqrt"], MODERATE[:8] + ABOVE_ONE + [3.4e38]),
    **dict.fromkeys(["Erfinv", "Asin", "Acos", "Atanh"], MODERATE),
    **dict.fromkeys(["Sin", "Cos", "Tan"], MODERATE + ABOVE_ONE + BELOW_ZERO + HUGE),
    "Acosh": [*ABOVE_ONE, 3.4e38],
    "Log1p": MODERATE + ABOVE_ONE,
    "Erfc": [*MODERATE, 8.657675743103027, 9.19, -3.0],
    "Lgamma": [*MODERATE, *ABOVE_ONE, 1.0000001192092896, 1.9999998807907104, -2.4570248126983643, -0.3, -5.5],
    "Digamma": [*MODERATE, *ABOVE_ONE, 1.4616321325302124, -0.5040830373764038, -0.3, -5.5],
    "Sinh": [*MODERATE, *BELOW_ZERO, 89.38432312011719],
    "Cosh": [*MODERATE, *BELOW_ZERO, 89.38432312011719],
}


@pytest.mark.parametrize("op", EXACT)
def test_float64_is_right_to_far_below_an_ulp_of_float32(op):
    x = np.array(DOMAIN.get(op, MODERATE + BELOW_ZERO + [5.0, 30.0]), np.float32).astype(np.float64)
    found = BY_OP[op].truth(x)
    with mpmath.workprec(300):
        for value, got in zip(x.tolist(), found.tolist(), strict=True):
            exact = EXACT[op](mpmath.mpf(value))
            assert abs(mpmath.mpf(got) - exact) <= FARTHEST * abs(exact), (op, value, got, exact)


@pytest.mark.parametrize("op", ["Selu"])
def test_selu_has_the_papers_constants(op):
    x = np.array([-3.0, -1e-6, 2.0])
    with mpmath.workprec(300):
        alpha, scale = mpmath.mpf("1.6732632423543772848170429916717"), mpmath.mpf("1.0507009873554804934193349852946")
        exact = [scale * (v if v > 0 else alpha * mpmath.expm1(v)) for v in x.tolist()]
        errors = [abs(mpmath.mpf(v) / r - 1) for v, r in zip(BY_OP[op].truth(x).tolist(), exact, strict=True)]
    assert max(errors) <= FARTHEST


def test_powers_of_large_exponents_are_right():
    x, y = np.array([1.0000001192092896, 0.9999, 3.0, 0.5718743]), np.array([5e8, 12345.678, -80.5, -116.35768])
    with mpmath.workprec(300):
        exact = [mpmath.power(mpmath.mpf(a), mpmath.mpf(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]
        errors = [abs(mpmath.mpf(v) / r - 1) for v, r in zip(np.power(x, y).tolist(), exact, strict=True)]
    assert max(errors) <= FARTHEST


@pytest.mark.parametrize(("x", "y"), [(7.0, 3.0), (-7.0, 3.0), (7.0, -3.0), (-7.0, -3.0), (6.0, 3.0), (-1e-8, 0.5)])
def test_floor_mod_has_the_sign_of_the_divisor(x, y):
    assert truth.floor_mod(np.array(x), np.array(y)) == x - y * math.floor(x / y)


GRADIENTS_BY_HAND = {
    # d/dx of the function at x, written by the op's own output where it takes that
    "TanhGrad": (math.tanh(0.7), lambda: 1 / math.cosh(0.7) ** 2),
    "SigmoidGrad": (1 / (1 + math.exp(-0.7)), lambda: math.exp(-0.7) / (1 + math.exp(-0.7)) ** 2),
    "SqrtGrad": (math.sqrt(0.7), lambda: 0.5 / math.sqrt(0.7)),
    "RsqrtGrad": (0.7**-0.5, lambda: -0.5 * 0.7**-1.5),
    "ReciprocalGrad": (1 / 0.7, lambda: -1 / 0.7**2),
    "SoftplusGrad": (0.7, lambda: 1 / (1 + math.exp(-0.7))),
    "SoftsignGrad": (-0.7, lambda: 1 / 1.7**2),
    "EluGrad": (math.expm1(-0.7), lambda: math.exp(-0.7)),
    "SeluGrad": (truth.SELU_SCALE_ALPHA * math.expm1(-0.7), lambda: truth.SELU_SCALE_ALPHA * math.exp(-0.7)),
    "LeakyReluGrad": (-0.7, lambda: 0.25),
    "ReluGrad": (-0.7, lambda: 0.0),
    "Relu6Grad": (6.5, lambda: 0.0),
}


@pytest.mark.parametrize("op", GRADIENTS_BY_HAND)
def test_gradients_are_derivatives(op):
    at, derivative = GRADIENTS_BY_HAND[op]
    first = BY_OP[op].arguments[0]
    given = (at, 3.0) if first == "y" else (3.0, at)
    assert BY_OP[op].truth(*(np.array(v) for v in given)) == pytest.approx(3.0 * derivative(), rel=1e-14)
