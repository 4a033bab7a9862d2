"""Casts between all formats: each result is the nearest number of the target, a tie the even one."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.numerics.formats import FLOAT32, format_of, round_to
from probes.accuracy import samples
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement, Value
from probes.frame.fallback import check_placed
from probes.frame.plan import Choice, Probe
from probes.frame.reproducer import Expected, reproducer

FAMILY, OP = "accuracy", "Cast"
FLOATS = ("float32", "float16", "bfloat16", "float64")
DTYPES = {**samples.DTYPES, **{name: np.dtype(name) for name in ("float64", "int32", "int64")}}
PAIRS = (
    *((source, target) for source in FLOATS for target in FLOATS if source != target),
    *((source, target) for source in ("int32", "int64") for target in FLOATS),
    *((source, target) for source in FLOATS for target in ("int32", "int64")),
)
NUM_EACH = 1 << 15


def probes(choice: Choice) -> Iterator[Probe]:
    for source, target in PAIRS:
        yield Probe(FAMILY, OP, target, f"from {source}", functools.partial(_read, source, target))


def _read(source: str, target: str, device: DeviceUnderTest) -> Iterator[Measurement]:
    x = inputs(source, target, device.seed)
    computation = device.computation(lambda tensor: tf.raw_ops.Cast(x=tensor, DstT=target))
    check_placed(device, computation, [x])
    yield measurement_of(x, computation(x)[0], device)


@np.errstate(all="ignore")  # signalling NaN, and what is too large for the source
def inputs(source: str, target: str, seed: int) -> npt.NDArray[Any]:
    """All numbers of a 16-bit source; else dense samples, ties of the target and what lies beside them."""
    generator = np.random.default_rng(seed)
    if source.startswith("int"):
        # 53 bits at most, since right results are found by way of float64
        bits = 31 if source == "int32" else 53
        numbers = generator.integers(-(1 << bits), 1 << bits, NUM_EACH) >> generator.integers(0, bits, NUM_EACH)
        shift = 0 if source == "int32" else 10
        ties = (generator.integers(1 << 24, 1 << 25, NUM_EACH) << 5) + 16
        around = (ties[:, None] + np.arange(-1, 2)).reshape(-1) if source == "int64" else np.zeros(0, np.int64)
        odd = np.arange((1 << 24) - 64, (1 << 24) + 64)
        return np.concatenate([numbers, numbers << shift, around, odd]).astype(source)
    if target.startswith("int"):
        most = 31 if target == "int32" else 53
        fractions = generator.uniform(-1, 1, NUM_EACH) * np.exp2(generator.uniform(0, most, NUM_EACH))
        result = np.concatenate([fractions, np.arange(-99, 100) / 2]).astype(DTYPES[source])
        return result[np.abs(result.astype(np.float64)) < 2.0**most * (1 - 2.0**-8)]
    if source in ("float16", "bfloat16"):
        return samples.all_numbers(DTYPES[source])
    dense = np.concatenate([samples.stratified(NUM_EACH, generator), samples.hard()])
    return np.concatenate([dense, _ties(target, generator)]).astype(DTYPES[source])


def _ties(target: str, generator: np.random.Generator) -> npt.NDArray[np.float64]:
    """Numbers halfway between two of the target's, and so little above and below that float32 does not see it."""
    format = format_of(DTYPES[target])
    steps = generator.integers(1 << (format.precision - 1), 1 << format.precision, NUM_EACH) + 0.5
    lowest, highest = max(format.min_exponent - format.precision, -140), format.max_exponent
    halfway = np.ldexp(steps, generator.integers(lowest, highest, NUM_EACH) - format.precision + 1)
    halfway = np.concatenate([halfway, -halfway])
    return np.concatenate([halfway, halfway * (1 + 2.0**-20), halfway * (1 - 2.0**-40), halfway * (1 + 2.0**-40)])


def expected_of(x: npt.NDArray[Any], target: np.dtype[Any]) -> npt.NDArray[Any]:
    """Rounded once, to nearest even; integers are cut off."""
    with np.errstate(invalid="ignore", over="ignore"):
        wide = x.astype(np.float64)
        return wide.astype(target) if target.kind == "i" else round_to(wide, format_of(target)).astype(target)


@np.errstate(all="ignore")
def measurement_of(x: npt.NDArray[Any], y: npt.NDArray[Any], device: DeviceUnderTest) -> Measurement:
    expected = expected_of(x, y.dtype)
    wrong = ~_same(x, y, expected)
    num_wrong = int(np.count_nonzero(wrong))
    figures: dict[str, Value] = {"num_inputs": x.size, "num_wrong": num_wrong}
    case, program = f"from {x.dtype.name}", ""
    if not num_wrong:
        says = "every result is the nearest number, ties to even" if y.dtype.kind != "i" else "every result cut off"
        return Measurement(FAMILY, OP, y.dtype.name, case, PASS, says, figures)
    first = int(np.argmax(wrong))
    figures |= {"x": float(x[first]), "got": float(y[first]), "right": float(expected[first])}
    shown = f"{figures['x']!r}: {figures['got']!r} for {figures['right']!r}"
    text = f"{num_wrong:,} of {x.size:,} results wrong, first {shown}"
    status = FAIL
    if y.dtype.kind != "i" and np.all(_same(x, y, _by_way_of_float32(x, y.dtype))):
        status, text = NOTE, f"rounded twice, to float32 first: {text}"
    else:
        program = _program(x, y, expected, wrong, device)
    return Measurement(FAMILY, OP, y.dtype.name, case, status, text, figures, program)


def _by_way_of_float32(x: npt.NDArray[Any], target: np.dtype[Any]) -> npt.NDArray[Any]:
    with np.errstate(invalid="ignore"):
        return expected_of(round_to(x.astype(np.float64), FLOAT32), target)


@np.errstate(invalid="ignore")  # signalling NaN
def _same(x: npt.NDArray[Any], y: npt.NDArray[Any], expected: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Equal, NaN for NaN; and zero for a subnormal of a format that TensorFlow flushes."""
    same = (y == expected) | ((y != y) & (expected != expected))
    for dtype in (x.dtype, expected.dtype):
        if dtype.kind != "i" and format_of(dtype).is_flushed:
            same |= (np.abs(x.astype(np.float64)) < format_of(dtype).smallest_normal) & (y == 0)
    return np.asarray(same, np.bool_)


def _program(
    x: npt.NDArray[Any],
    y: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    wrong: npt.NDArray[np.bool_],
    device: DeviceUnderTest,
) -> str:
    some = np.flatnonzero(wrong)[:8]
    given = ", ".join(f'float("{float(v)!r}")' for v in x[some].astype(np.float64))
    right = ", ".join(f'float("{float(v)!r}")' for v in expected[some].astype(np.float64))
    return reproducer(
        f"Cast of {x.dtype.name} to {y.dtype.name} is not the nearest number",
        [f"x = np.array([{given}]).astype(tf.{x.dtype.name}.as_numpy_dtype)"],
        f"tf.cast(x, tf.{y.dtype.name})", Expected([f"expected = np.array([{right}])"]), device.place,
    )  # fmt: skip
