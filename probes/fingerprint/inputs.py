"""In which format an op reads its operands: by single products x * 1 and 1 * x.  NumPy only.

Each candidate is a function float64 -> float64; the first that explains every answer is taken, the plainest first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from diag.numerics.formats import BFLOAT16, FLOAT16, FLOAT32, TF32, Format, round_to
from probes.fingerprint.sums import Doubles, Sum

Reader = Callable[[Doubles], Doubles]
NEAREST, TRUNCATED, AWAY = "to nearest even", "truncated", "to nearest, ties away from zero"
_NAMES = {TF32.precision: "TF32", BFLOAT16.precision: "bfloat16", FLOAT32.precision: "float32"}


@dataclass(frozen=True)
class InputFormat:
    """bits: of the significand that are read, 0 where no candidate explains the answers."""

    name: str
    rounding: str
    bits: int

    def __str__(self) -> str:
        return f"{self.name} {self.rounding}".rstrip()


UNKNOWN = InputFormat("unrecognised", "", 0)


def input_formats(asked: Sum) -> tuple[InputFormat, InputFormat]:
    """How the first and the second operand are read."""
    probes = test_values(asked.format)
    probes = probes[np.abs(probes) * asked.scale >= asked.format.smallest_normal]  # a mean makes them smaller
    at = np.zeros((len(probes), asked.num_terms))
    ones = np.ones_like(at)
    at[:, 0] = probes
    if not asked.has_factors:
        result = _explained(probes, asked(at), asked.format)
        return result, result
    first, second = asked(at, ones), asked(ones * (at != 0), np.where(at != 0, at, 1.0))
    formats = _explained(probes, first, asked.format), _explained(probes, second, asked.format)
    return tuple(_split(asked, each) for each in formats)  # type: ignore[return-value]


def test_values(format: Format) -> Doubles:
    """Numbers of the format whose rounding tells formats apart: ties, their neighbours, and far exponents."""
    last = format.precision - 1
    values = []
    for k in range(1, last + 1):
        values += [1 + 2.0**-k, 1 + 3 * 2.0**-k, -(1 + 2.0**-k)]
        if k < last - 1:
            values += [1 + 2.0**-k + 2.0**-last, 1 + 2.0**-k - 2.0**-last]
    far = [e for e in (-100, -40, -30, -20, -13, 14, 17, 100) if format.min_exponent <= e <= format.max_exponent]
    values += [1.5 * 2.0**e for e in far]
    values += [65472.0, 65504.0] if format.precision >= FLOAT16.precision else [65280.0]
    values += [65519.0, 65520.0] if format.max_exponent > 15 and format.precision > FLOAT16.precision else []
    return np.array(values)


def candidates(own: Format) -> Iterator[tuple[InputFormat, Reader]]:
    """From the plainest to the oddest."""
    yield InputFormat(own.name, "", own.precision), lambda x: x
    for bits in sorted(range(2, own.precision), reverse=True):
        narrow = Format("", bits, FLOAT32.min_exponent, FLOAT32.max_exponent)
        name = _NAMES.get(bits, f"{bits} significand bits")
        yield InputFormat(name, NEAREST, bits), lambda x, f=narrow: round_to(x, f)  # type: ignore[misc]
        yield InputFormat(name, TRUNCATED, bits), lambda x, f=narrow: round_to(x, f, "toward-zero")  # type: ignore[misc]
        yield InputFormat(name, AWAY, bits), lambda x, b=bits: ties_away(x, b)  # type: ignore[misc]
    if own.max_exponent > FLOAT16.max_exponent:
        yield InputFormat("float16", NEAREST, 11), lambda x: round_to(x, FLOAT16)
        yield InputFormat("float16", TRUNCATED, 11), lambda x: round_to(x, FLOAT16, "toward-zero")
        yield InputFormat("float16 without subnormals", NEAREST, 11), lambda x: without_subnormals(round_to(x, FLOAT16))
    for part in (TF32, BFLOAT16, FLOAT16):
        if part.precision < own.precision and part.max_exponent <= own.max_exponent:
            name = f"{_NAMES[part.precision] if part is not FLOAT16 else 'float16'} in two parts"
            yield InputFormat(name, "", min(2 * part.precision, own.precision)), lambda x, f=part: two_parts(x, f)  # type: ignore[misc]


def ties_away(x: Doubles, bits: int) -> Doubles:
    """To `bits` significand bits, ties away from zero, as NVIDIA's cvt.rna.tf32.f32 does."""
    fractions, exponents = np.frexp(x)
    return np.ldexp(np.copysign(np.floor(np.abs(fractions) * 2.0**bits + 0.5), x), exponents - bits)


def without_subnormals(x: Doubles) -> Doubles:
    return np.where(np.abs(x) < FLOAT16.smallest_normal, 0.0, x)


def two_parts(x: Doubles, part: Format) -> Doubles:
    with np.errstate(invalid="ignore"):
        high = round_to(x, part)
        return high + round_to(x - high, part)


def _explained(values: Doubles, answers: Doubles, own: Format) -> InputFormat:
    for result, read in candidates(own):
        with np.errstate(all="ignore"):
            expected = round_to(read(values), own)
        # An infinite operand times the zeros beside it is NaN in a sum, infinite alone.
        beyond = ~np.isfinite(expected)
        if np.array_equal(answers[~beyond], expected[~beyond]) and not np.isfinite(answers[beyond]).any():
            return result
    return UNKNOWN


def _split(asked: Sum, found: InputFormat) -> InputFormat:
    """Whether a format in parts shows in products: those of two low parts are left out.

    a = 1 + 2^-p is read as 1 and 2^-p by parts of p bits, so a * a lacks 2^-2p of 1 + 2^(1-p) + 2^-2p.  Parts of fewer
    bits come first: they lack the product of longer ones' low parts as well.
    """
    for name, bits in (("bfloat16", BFLOAT16.precision), ("TF32", TF32.precision)):
        in_two = found.name == f"{name} in two parts"
        if not in_two and found.name != FLOAT32.name:
            continue
        a = np.zeros((1, asked.num_terms))
        a[0, 0] = 1 + 2.0**-bits
        if asked(a, np.where(a == 0, 1.0, a))[0] == 1 + 2.0 ** (1 - bits):
            count = "two" if in_two else "three"
            return InputFormat(f"{name} in {count} parts, products of the low ones left out", "", found.bits)
    return found
