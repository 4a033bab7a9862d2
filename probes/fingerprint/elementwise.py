"""What single operations do: how they round, whether a product is fused into the sum behind it, subnormals.

Everything is asked in arrays long enough for vectors and what is left over of them, and every element must answer
alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.numerics.formats import Format, format_of
from diag.numerics.ulp import ulp_error
from probes.fingerprint.accumulation import RULES, UNKNOWN
from probes.fingerprint.subnormals import FLUSHED, KEPT, OTHER
from probes.fingerprint.summary import FAMILY
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import NOTE, Measurement
from probes.frame.fallback import check_placed
from probes.frame.plan import FLOAT_DTYPES, Probe

MIXED = "not alike in all elements"
LENGTH = 67  # 4 vectors of 16 float32, and 3 left over
NUM_SAMPLES = 4096
FRACTIONS = np.array([sign * f for f in (0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.5, 3.5) for sign in (1, -1)])
OPS: dict[str, Callable[[Any, Any], Any]] = {
    "AddV2": lambda a, b: tf.raw_ops.AddV2(x=a, y=b),
    "Mul": lambda a, b: tf.raw_ops.Mul(x=a, y=b),
    "RealDiv": lambda a, b: tf.raw_ops.RealDiv(x=a, y=b),
    "Sqrt": lambda a, b: tf.raw_ops.Sqrt(x=a),
    "Relu": lambda a, b: tf.raw_ops.Relu(features=a),
    "Maximum": lambda a, b: tf.raw_ops.Maximum(x=a, y=b),
}
# Where a subnormal is: the first operand in smallest normal numbers, the second as a function of it, the right answer.
SUBNORMALS: dict[str, dict[str, tuple[float, Callable[[float], float], float]]] = {
    "AddV2": {"in": (0.5, lambda normal: 0.5 * normal, 1.0), "out": (1.5, lambda normal: -normal, 0.5)},
    "Mul": {"in": (0.5, lambda normal: 4.0, 2.0), "out": (1.0, lambda normal: 0.5, 0.5)},
    "RealDiv": {"in": (0.5, lambda normal: 0.25, 2.0), "out": (1.0, lambda normal: 2.0, 0.5)},
    "Sqrt": {"in": (0.25, lambda normal: 1.0, 0.5)},
    "Relu": {"in and out": (0.5, lambda normal: 1.0, 0.5)},
    "Maximum": {"in and out": (0.5, lambda normal: 0.25 * normal, 0.5)},
}
CASTS = (("float32", "float16"), ("float32", "bfloat16"), ("float16", "float32"), ("bfloat16", "float32"),
         ("float16", "bfloat16"), ("bfloat16", "float16"), ("float64", "float32"))  # fmt: skip


def probes() -> Iterator[Probe]:
    for dtype in FLOAT_DTYPES:
        for op, run in (("AddV2", _adding), ("Mul", _multiplying), ("RealDiv", _dividing), ("Sqrt", _rooting)):
            yield _probe(op, dtype, "rounding", run)
        yield _probe("AddV2", dtype, "after Mul", _contracted)
        for op in SUBNORMALS:
            yield _probe(op, dtype, "subnormals", partial(_subnormals, op))
    for source, target in CASTS:
        yield _probe("Cast", source, f"to {target}", partial(_casting, target))


def _probe(op: str, dtype: str, case: str, run: Callable[[DeviceUnderTest, str], Measurement]) -> Probe:
    return Probe(FAMILY, op, dtype, case, lambda device: [run(device, dtype)])


def _asked(device: DeviceUnderTest, function: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    computation = device.computation(function)
    check_placed(device, computation, arrays)
    return computation(*arrays)[0]


def _array(values: Any, dtype: str) -> np.ndarray:
    return np.asarray(values, np.float64).astype(tf.dtypes.as_dtype(dtype).as_numpy_dtype)


def _everywhere(values: npt.ArrayLike, dtype: str) -> np.ndarray:
    """(LENGTH, values): each value all along a vector."""
    return np.repeat(_array(values, dtype)[None], LENGTH, axis=0)


def _one_answer(result: np.ndarray) -> np.ndarray | None:
    """The row that all rows are, None where they differ."""
    rows = np.asarray(result, np.float64)
    return rows[0] if all(np.array_equal(row, rows[0], equal_nan=True) for row in rows) else None


def _rule(got: np.ndarray | None, exact: np.ndarray) -> str:
    """By which rule numbers in units of the last place were made whole."""
    if got is None:
        return MIXED
    return next((name for name, rule in RULES.items() if np.array_equal(got, rule(exact))), UNKNOWN)


def _adding(device: DeviceUnderTest, dtype: str) -> Measurement:
    format = _format(dtype)
    last_place, whole = 2.0 ** (1 - format.precision), 1.5 * 2.0 ** (format.precision - 1)
    large = np.repeat([1.5, -1.5], len(FRACTIONS))
    small = np.tile(FRACTIONS, 2)
    result = _asked(device, OPS["AddV2"], _everywhere(large, dtype), _everywhere(small * last_place, dtype))
    answer = _one_answer(result)
    rule = _rule(None if answer is None else answer / last_place, large / 1.5 * whole + small)
    return Measurement(FAMILY, "AddV2", dtype, "rounding", NOTE, rule, {"rounding": rule})


def _multiplying(device: DeviceUnderTest, dtype: str) -> Measurement:
    return _sampled(device, "Mul", dtype, lambda a, b: a * b)


def _dividing(device: DeviceUnderTest, dtype: str) -> Measurement:
    # A float64 quotient or root, rounded once more, is the right one: 53 >= 2 * 24 + 2 bits (Figueroa 1995).
    return _sampled(device, "RealDiv", dtype, lambda a, b: a / b)


def _rooting(device: DeviceUnderTest, dtype: str) -> Measurement:
    return _sampled(device, "Sqrt", dtype, lambda a, b: np.sqrt(a))


def _sampled(device: DeviceUnderTest, op: str, dtype: str, exact: Callable[..., np.ndarray]) -> Measurement:
    """Numbers of two binades: the share that is rounded to nearest even, and the largest error."""
    random = np.random.default_rng(device.seed)
    a, b = (_array(x, dtype) for x in random.uniform(1, 4, (2, NUM_SAMPLES)))
    result = _asked(device, OPS[op], a, b)
    truth = exact(a.astype(np.float64), b.astype(np.float64))
    right = float(np.mean(result == truth.astype(result.dtype)))
    worst = float(np.abs(ulp_error(result, truth, _format(dtype))).max())
    says = "correctly rounded" if right == 1 else f"{right:.2%} correctly rounded, at most {worst:.4g} ULP off"
    return Measurement(FAMILY, op, dtype, "rounding", NOTE, says, {"correctly_rounded": right, "max_ulp": worst})


def _contracted(device: DeviceUnderTest, dtype: str) -> Measurement:
    """a * b + c with c the rounded product less its sign: what is left is the rounding of the product."""
    half = (_format(dtype).precision + 1) // 2
    a = _everywhere([1 + 2.0**-half], dtype)
    c = _everywhere([-(1 + 2.0 ** (1 - half))], dtype)
    left = _one_answer(_asked(device, lambda a, b, c: tf.raw_ops.AddV2(x=tf.raw_ops.Mul(x=a, y=b), y=c), a, a, c))
    if left is None:
        says = "the product is rounded in some elements only"
    elif left[0] == 2.0 ** (-2 * half):
        says = "the product is not rounded before it is added (FMA or a wider format)"
    else:
        says = "the product is rounded before it is added" if left[0] == 0 else "neither fused nor rounded"
    return Measurement(
        FAMILY, "AddV2", dtype, "after Mul", NOTE, says, {"left": None if left is None else float(left[0])}
    )


def _subnormals(op: str, device: DeviceUnderTest, dtype: str) -> Measurement:
    """Whether a subnormal number is kept that goes in, and one that comes out."""
    normal = _format(dtype).smallest_normal
    figures: dict[str, Any] = {}
    for where, (first, second, kept) in SUBNORMALS[op].items():
        operands = _everywhere([first * normal], dtype), _everywhere([second(normal)], dtype)
        answer = _one_answer(_asked(device, OPS[op], *operands))
        figures[where] = _kept(answer, kept * (normal**0.5 if op == "Sqrt" else normal))
    says = ", ".join(f"{how} {where}" for where, how in figures.items())
    return Measurement(FAMILY, op, dtype, "subnormals", NOTE, says, figures)


def _casting(target: str, device: DeviceUnderTest, source: str) -> Measurement:
    """How it rounds, what overflows to infinity, which subnormals come through."""
    own, other = _format(source), _format(target)
    figures: dict[str, Any] = {}

    def cast(x: Any) -> Any:
        return tf.raw_ops.Cast(x=x, DstT=target)

    if own.precision > other.precision + 2:
        last_place = 2.0 ** (1 - other.precision)
        values = np.concatenate([1.5 + FRACTIONS * last_place, -1.5 + FRACTIONS * last_place])
        answer = _one_answer(_asked(device, cast, _everywhere(values, source)))
        figures["rounding"] = _rule(None if answer is None else answer / last_place, values / last_place)
    if own.max_exponent > other.max_exponent:
        answer = _one_answer(_asked(device, cast, _everywhere([4 * 2.0**other.max_exponent], source)))
        figures["overflow"] = MIXED if answer is None else str(answer[0])
    low = max(own.smallest_subnormal, other.smallest_subnormal) * 4
    sides = [side for side, format in (("in", own), ("out", other)) if low < format.smallest_normal]
    if sides:
        answer = _one_answer(_asked(device, cast, _everywhere([low], source)))
        figures[f"subnormals_{'_and_'.join(sides)}"] = _kept(answer, low)
    says = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())
    return Measurement(FAMILY, "Cast", source, f"to {target}", NOTE, says, figures)


def _kept(answer: np.ndarray | None, value: float) -> str:
    return MIXED if answer is None else {value: KEPT, 0.0: FLUSHED}.get(float(answer[0]), OTHER)


def _format(dtype: str) -> Format:
    return format_of(tf.dtypes.as_dtype(dtype).as_numpy_dtype)
