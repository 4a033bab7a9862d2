"""A tally of errors as a measurement: its figures, a line for a person, a program for a vendor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from diag.machine.places import Place
from diag.numerics.formats import format_of
from diag.numerics.ulp import ulp
from probes.accuracy.allowed import Limits, in_short
from probes.accuracy.elementwise import Function
from probes.accuracy.samples import DTYPES
from probes.accuracy.subnormals import subnormal_words
from probes.accuracy.tally import Tally, Worst
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement, Value
from probes.frame.reproducer import Expected, reproducer

FAMILY = "accuracy"


@dataclass(frozen=True)
class TalliedErrors:
    """The errors of one function in one dtype, and what they are held against."""

    function: Function
    dtype_name: str
    tally: Tally
    limits: Limits


def measurement(errors: TalliedErrors, case: str, place: Place, facts: Mapping[str, Value] = {}) -> Measurement:
    """`fail` beyond what is promised and what was measured elsewhere, `note` between the two or without a promise."""
    function, found = errors.function, errors.tally
    status = NOTE if errors.limits.promised is None and not function.exact else PASS
    if found.num_beyond:
        status = FAIL if found.num_beyond_seen else NOTE
    figures = {**_figures(errors), **facts}
    says = (_exactly if function.exact else _in_ulp)(errors) + subnormal_words(facts)
    program = _program(errors, place) if status == FAIL else ""
    return Measurement(FAMILY, function.op, errors.dtype_name, case, status, says, figures, program)


def _figures(errors: TalliedErrors) -> dict[str, Value]:
    found, limits = errors.tally, errors.limits
    figures: dict[str, Value] = {
        "max_ulp": _rounded(found.max_ulp),
        "held_ulp": _rounded(found.held_ulp),
        "mean_ulp": _rounded(found.sum_ulp / max(found.num_compared, 1)),
        "correctly_rounded": _rounded(_share(found)),
        "num_inputs": found.num_inputs,
        "num_beyond": found.num_beyond,
        "num_zero_sign": found.num_zero_sign,
        "num_infinity_for_number": found.num_infinity_for_number,
        "num_nan_for_number": found.num_nan_for_number,
        "allowed_ulp": None if errors.function.exact or limits.promised is None else limits.ulp,
        "allowed_by": "" if errors.function.exact or limits.promised is None else limits.promised.source,
    }
    if found.worst is not None:
        for name, value in zip(errors.function.arguments, found.worst.arguments, strict=True):
            figures[name], figures[f"{name}_hex"] = value, _hex(value, errors.dtype_name)
        figures |= {"got": found.worst.got, "right": found.worst.right}
    return figures


def _share(found: Tally) -> float:
    return 1 - found.num_unequal / max(found.num_inputs, 1)


def _hex(value: float, dtype_name: str) -> str:
    number = np.asarray(value).astype(DTYPES[dtype_name])
    return f"0x{int(number.view(f'u{number.dtype.itemsize}')):0{2 * number.dtype.itemsize}x}"


def _rounded(figure: float) -> float:
    return float(f"{figure:.6g}")


def _at(errors: TalliedErrors, worst: Worst) -> str:
    named = zip(errors.function.arguments, worst.arguments, strict=True)
    return ", ".join(f"{name} = {value:.9g} ({_hex(value, errors.dtype_name)})" for name, value in named)


def _exactly(errors: TalliedErrors) -> str:
    found = errors.tally
    if not found.num_beyond or found.worst is None:
        return "every result exact"
    at = _at(errors, found.worst)
    return f"{found.num_beyond:,} results wrong, such as {found.worst.got:.9g} for {found.worst.right:.9g} at {at}"


def _in_ulp(errors: TalliedErrors) -> str:
    found, limits = errors.tally, errors.limits
    at = _at(errors, found.worst) if found.worst else ""
    text = f"at most {found.held_ulp:.4g} ULP"
    if found.worst and math.isinf(found.held_ulp):
        text = f"{found.worst.got:.9g} for {found.worst.right:.9g}"
    if found.held_ulp and at:
        text += f" at {at}"
    if found.held_ulp != found.max_ulp:
        text += f" ({found.max_ulp:.4g} with what flushed or cancelled terms cost)"
    mean = found.sum_ulp / max(found.num_compared, 1)
    text += f", mean {mean:.2g}, {100 * _share(found):.1f}% correctly rounded; "
    if limits.promised is None:
        return text + "nobody publishes an allowance"
    text += f"allowed {limits.ulp:g} ({in_short(limits.promised)})"
    if found.num_beyond and limits.seen:
        text += f", {limits.seen.ulp:g} measured elsewhere"
    return text + (f", beyond it {found.num_beyond:,} results" if found.num_beyond else "")


def _program(errors: TalliedErrors, place: Place) -> str:
    """The worst arguments, 16 times over: vectorised kernels compute a lone number otherwise."""
    function, dtype_name, found = errors.function, errors.dtype_name, errors.tally
    worst = found.worst
    if worst is None:
        return ""
    setup = [
        f"{name} = np.full(16, {_literal(value)}).astype(tf.{dtype_name}.as_numpy_dtype)"
        for name, value in zip(function.arguments, worst.arguments, strict=True)
    ]
    unit = float(ulp(worst.right, format_of(DTYPES[dtype_name]))) if math.isfinite(worst.right) else 0.0
    allowed = 0.0 if function.exact else unit * min(errors.limits.ulp, found.held_ulp / 2)
    what = f"{found.held_ulp:.4g} ULP off" if math.isfinite(found.held_ulp) and not function.exact else "wrong"
    return reproducer(
        f"{function.op} {dtype_name} is {what} at {_at(errors, worst)}", setup, function.call_text,
        Expected([f"expected = np.full(16, {_literal(worst.right)})"], allowed=f"{allowed:.6g}"), place,
    )  # fmt: skip


def _literal(value: Any) -> str:
    return repr(value) if math.isfinite(value) else f'float("{value}")'
