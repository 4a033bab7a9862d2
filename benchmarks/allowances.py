"""Measure how far off, in ULP of float64 truth, every op is that is judged by an allowance: one line an op and format.

    python -m benchmarks.allowances --place CPU:0 --stride 257
    python -m benchmarks.allowances --place CPU:0/xla Tanh Exp

All numbers of float16 and bfloat16 are tried, and every STRIDE-th of float32; of ops with two arguments random
pairs.  Beside each stands what diag/data/allowances.toml allows; `OVER` marks what exceeds it.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.allowances import DTYPES, allowance
from diag.numerics.formats import format_of
from diag.numerics.statistics import against_truth

UNARY = """Exp Expm1 Log Log1p Sin Cos Tan Asin Acos Atan Sinh Cosh Tanh Asinh Acosh Atanh Erf Erfc Erfinv Ndtri
Sqrt Rsqrt Reciprocal Inv Sigmoid Softplus Softsign Elu Selu Square LeakyRelu""".split()
BINARY = """Pow Atan2 RealDiv Div DivNoNan SquaredDifference Xlogy Xdivy Xlog1py SqrtGrad RsqrtGrad ReciprocalGrad
InvGrad EluGrad SeluGrad SoftplusGrad AddV2 Sub Mul MulNoNan""".split()
CHUNK = 1 << 22
PAIRS = 1 << 22
# Pow of large numbers overflows; exponents of the size that training has.
LARGEST_EXPONENT = {"Pow": 8.0}


@dataclass
class Worst:
    """The largest error so far, and the arguments of it."""

    ulp: float = 0.0
    arguments: tuple[float, ...] = ()
    tried: int = 0

    def take(self, x: npt.NDArray[Any], truth: npt.NDArray[np.float64], arguments: Sequence[npt.NDArray[Any]]) -> None:
        found = against_truth(x, truth, flushed=format_of(x.dtype).is_flushed)
        self.tried += x.size
        if found.max > self.ulp and found.worst_index is not None:
            finite = np.isfinite(x.astype(np.float64)) & np.isfinite(truth)
            if found.classes.num_mismatched:  # an infinity on one side is said by the classes, not measured
                return self.take(x[finite], truth[finite], [each[finite] for each in arguments])
            self.ulp = found.max
            self.arguments = tuple(float(each[found.worst_index]) for each in arguments)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.allowances", description=__doc__.splitlines()[0])
    parser.add_argument("ops", nargs="*", help="op types (default: all that are judged by an allowance)")
    parser.add_argument("--place", default="CPU:0", help="CPU:0, CPU:0/xla, GPU:0... (default: %(default)s)")
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--stride", type=int, default=257, help="of float32's numbers (default: %(default)s)")
    options = parser.parse_args()
    kind = _kind(options.place)
    print(f"place {options.place} ({kind}), stride {options.stride}")
    print(f"{'op':18} {'format':9} {'largest':>9} {'allowed':>8}  {'tried':>11}  at")
    for op in options.ops or [*UNARY, *BINARY]:
        for dtype in options.dtypes:
            if (worst := measure(op, dtype, options.place, options.stride)) is None:
                print(f"{op:18} {dtype:9} {'no kernel':>9}", flush=True)
                continue
            row = allowance(op, dtype, kind)
            over = "  OVER" if row is not None and worst.ulp > row.ulp * (1 + 2.0**-20) else ""
            at = ", ".join(f"{x:.9g}" for x in worst.arguments)
            allowed = "" if row is None else f"{row.ulp:g}"
            print(f"{op:18} {dtype:9} {worst.ulp:9.4g} {allowed:>8}  {worst.tried:11,}  {at}{over}", flush=True)


def _kind(place: str) -> str:
    device = "gpu" if place.startswith("GPU") else "cpu"
    if place.endswith("/xla"):
        return f"xla-{device}"
    return "tensorflow-cpu" if device == "cpu" else "cuda"


def measure(op: str, dtype: str, place: str, stride: int) -> Worst | None:
    """The largest error over the inputs; None where the place has no kernel."""
    import tensorflow as tf

    device, _, execution = place.partition("/")
    kernel = getattr(tf.raw_ops, op)
    names = [name for name in kernel.__signature__.parameters if name not in ("name", "alpha")]

    def plain(*arguments: Any) -> Any:
        return kernel(**dict(zip(names, arguments, strict=True)))

    called = tf.function(plain, jit_compile=True) if execution == "xla" else plain
    worst = Worst()
    for arguments in _arguments(op, dtype, stride):
        with tf.device(device):
            try:
                x = called(*(tf.constant(each) for each in arguments)).numpy()
            except (tf.errors.NotFoundError, tf.errors.InvalidArgumentError, tf.errors.UnimplementedError):
                return None
        with tf.device("CPU:0"):
            truth = plain(*(tf.constant(each.astype(np.float64)) for each in arguments)).numpy()
        worst.take(x, truth, arguments)
    return worst


def _arguments(op: str, dtype: str, stride: int) -> Iterator[tuple[npt.NDArray[Any], ...]]:
    if op in BINARY:
        yield _pairs(op, dtype)
        return
    for x in _numbers(dtype, stride):
        yield (x,)


def _numbers(dtype: str, stride: int) -> Iterator[npt.NDArray[Any]]:
    """All finite numbers of a narrow format, every `stride`-th of float32; no subnormals where they are flushed."""
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    unsigned = np.uint32 if dtype == "float32" else np.uint16
    total, step = (1 << 32, stride) if dtype == "float32" else (1 << 16, 1)
    for start in range(0, total, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, total), step, dtype=np.uint64).astype(unsigned)
        x = bits.view(kind)
        yield x[_usable(x)]


def _pairs(op: str, dtype: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Random pairs: half of them of all sizes, half near one; results that underflow are truth's to say."""
    import ml_dtypes

    kind = np.dtype(ml_dtypes.bfloat16) if dtype == "bfloat16" else np.dtype(dtype)
    generator = np.random.default_rng(0)
    octaves = 12 if dtype == "float16" else 60
    sizes = np.exp2(generator.uniform(-octaves, octaves, (2, PAIRS // 2))) * generator.choice([-1, 1], (2, PAIRS // 2))
    near = generator.standard_normal((2, PAIRS // 2))
    left, right = np.concatenate([sizes, near], axis=1)
    if op in LARGEST_EXPONENT:
        left, right = np.abs(left), np.clip(right, -LARGEST_EXPONENT[op], LARGEST_EXPONENT[op])
    left, right = left.astype(kind), right.astype(kind)
    usable = _usable(left) & _usable(right)
    return left[usable], right[usable]


def _usable(x: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    form = format_of(x.dtype)
    with np.errstate(invalid="ignore"):
        wide = x.astype(np.float64)
        finite = np.isfinite(wide)
        return finite & ((np.abs(wide) >= form.smallest_normal) | (wide == 0)) if form.is_flushed else finite


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
