"""How far off each elementwise op is, in ULP, and where: against float64, beside what is published."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.numerics.formats import format_of
from diag.numerics.statistics import against_truth
from probes import casts, exhaustive, samples
from probes.allowed import Limits, excess_error, in_short, limits_of, num_beyond
from probes.card import FAIL, NOTE, PASS, Reading, Value
from probes.elementwise import BINARY, FUNCTIONS, UNARY, Function
from probes.fallback import check_placed
from probes.plan import FLOAT_DTYPES, Choice, Probe
from probes.reproducer import reproducer
from probes.subject import Subject
from probes.subnormals import subnormal_facts, subnormal_words

FAMILY = "accuracy"
Arrays = tuple[npt.NDArray[Any], ...]


def probes(choice: Choice) -> Iterator[Probe]:
    if choice.exhaustive:
        yield from exhaustive.probes(choice)
        return
    num_samples = samples.NUM_QUICK if choice.quick else samples.NUM_SAMPLES
    for function in FUNCTIONS:
        for dtype_name in FLOAT_DTYPES:
            run = functools.partial(_read, function, dtype_name, num_samples)
            yield Probe(FAMILY, function.op, dtype_name, "", run)
    yield from casts.probes(choice)


def call_of(function: Function) -> Callable[..., Any]:
    """The op as a function of tensors."""
    op = getattr(tf.raw_ops, function.op)
    return lambda *tensors: op(**dict(zip(function.arguments, tensors, strict=True)), **function.attributes)


def inputs_of(function: Function, dtype_name: str, num_samples: int, seed: int) -> Arrays:
    if function in UNARY:
        return (samples.inputs(dtype_name, num_samples, seed),)
    return samples.pairs(dtype_name, function.exponents, num_samples, seed)


def _read(function: Function, dtype_name: str, num_samples: int, subject: Subject) -> Iterator[Reading]:
    arrays = inputs_of(function, dtype_name, num_samples, subject.seed)
    computation = subject.computation(call_of(function))
    check_placed(subject, computation, arrays)
    yield reading_of(function, arrays, computation(*arrays)[0], subject)


def reading_of(function: Function, arrays: Arrays, y: npt.NDArray[Any], subject: Subject) -> Reading:
    """What an op's results `y` on these arguments are worth."""
    format = format_of(y.dtype)
    with np.errstate(all="ignore"):
        wide = [array.astype(np.float64) for array in arrays]
        truth = np.asarray(function.truth(*wide), np.float64)
        facts = subnormal_facts(function.truth, wide, truth, y, format) if function in UNARY else {}
        judged = ~function.undefined(*wide) if function.undefined else np.ones(y.shape, np.bool_)
        if format.is_flushed:  # what it does to them is a fact of its own
            for array in wide:
                judged &= (np.abs(array) >= format.smallest_normal) | (array == 0) | np.isnan(array)
        inputs = tuple(array[judged] for array in arrays)
        scale = function.scale(*(array[judged] for array in wide)) if function.scale else 0.0
    return _judged(function, inputs, y[judged], truth[judged], np.asarray(scale), facts, subject)


def _judged(
    function: Function, inputs: Arrays, y: npt.NDArray[Any], truth: npt.NDArray[np.float64],
    scale: npt.NDArray[np.float64], facts: dict[str, Value], subject: Subject,
) -> Reading:  # fmt: skip
    format, dtype_name = format_of(y.dtype), y.dtype.name
    found = against_truth(y, truth, flushed=format.is_flushed)
    limits = limits_of(function.op, dtype_name, subject.place, function.terms_ulp)
    limit = 0.0 if function.exact else limits.ulp
    error = np.zeros(0)
    nothing_promised = limits.promised is None and not function.exact
    if nothing_promised or found.classes.num_mismatched or not found.max <= limit:
        error = excess_error(y, truth, format, scale)
    worst = found.worst_index[0] if found.worst_index else 0
    num_wrong = num_beyond(error, limit)
    status = NOTE if nothing_promised else PASS
    if num_wrong:
        status = NOTE if limits.seen and not num_beyond(error, limits.seen.ulp) else FAIL
        worst = int(np.argmax(error))
    elif error.size and np.max(error) > 0:
        worst = int(np.argmax(error))
    raw = found.max if found.num_compared else 0.0
    figures: dict[str, Value] = {
        "max_ulp": _rounded(raw),
        "max_ulp_held": _rounded(float(np.max(error))) if error.size else _rounded(raw),
        "mean_ulp": _rounded(found.mean),
        "correctly_rounded": _rounded(1 - found.share_unequal),
        "num_inputs": found.size,
        "num_beyond": num_wrong,
        "num_zero_sign": found.num_zero_sign,
        "num_infinity_for_number": found.classes.inf_finite,
        "num_nan_for_number": found.classes.nan_number,
        "allowed_ulp": None if limit == np.inf else limit,
        "allowed_by": "an exact op" if function.exact else limits.promised.source if limits.promised else "",
        **_where(function, inputs, y, truth, worst),
        **facts,
    }
    says = _says(function, figures, limits, status)
    program = _program(function, inputs, y, truth, worst, figures, subject) if status == FAIL else ""
    return Reading(FAMILY, function.op, dtype_name, "", status, says, figures, program)


def _where(
    function: Function, inputs: Arrays, y: npt.NDArray[Any], truth: npt.NDArray[np.float64], worst: int
) -> dict[str, Value]:
    """The input of the largest error, in decimals and in hex, what came and what is right."""
    where: dict[str, Value] = {}
    for name, array in zip(function.arguments, inputs, strict=True):
        where[name] = float(array[worst])
        where[f"{name}_hex"] = _hex(array[worst])
    return {**where, "got": float(y[worst]), "right": float(truth[worst])}


def _hex(number: Any) -> str:
    width = 2 * number.dtype.itemsize
    return f"0x{int(np.asarray(number).view(f'u{number.dtype.itemsize}')):0{width}x}"


def _rounded(figure: float) -> float:
    return float(f"{figure:.6g}")


def _says(function: Function, figures: dict[str, Value], limits: Limits, status: str) -> str:
    at = ", ".join(f"{name} = {figures[name]:.9g} ({figures[f'{name}_hex']})" for name in function.arguments)
    held, raw, num_wrong = figures["max_ulp_held"], figures["max_ulp"], figures["num_beyond"]
    if function.exact:
        text = "every result exact" if status == PASS else f"{num_wrong:,} results wrong"
        text += "" if status == PASS else f", first at {at}: {figures['got']:.9g} for {figures['right']:.9g}"
    else:
        text = f"at most {held:.4g} ULP" + (f" at {at}" if held else "")
        if isinstance(held, float) and held == np.inf:
            text = f"{figures['got']:.9g} for {figures['right']:.9g} at {at}"
        if held != raw:
            text += f" ({raw:.4g} with what a flushed or cancelled term costs)"
        share = 100 * float(figures["correctly_rounded"] or 0)
        text += f", mean {figures['mean_ulp']:.2g}, {share:.1f}% correctly rounded"
        text += f"; {_held_to(limits, int(num_wrong or 0))}"
    return text + subnormal_words(figures)


def _held_to(limits: Limits, num_wrong: int) -> str:
    if limits.promised is None:
        return "nobody publishes an allowance"
    text = f"allowed {limits.promised.ulp:g} ({in_short(limits.promised)})"
    if num_wrong and limits.seen:
        text += f", {limits.seen.ulp:g} measured elsewhere"
    return text + (f", beyond it {num_wrong:,} results" if num_wrong else "")


def _program(
    function: Function, inputs: Arrays, y: npt.NDArray[Any], truth: npt.NDArray[np.float64], worst: int,
    figures: dict[str, Value], subject: Subject,
) -> str:  # fmt: skip
    """The worst input, 16 times: vectorised kernels treat a lone number differently."""
    dtype = f"tf.{y.dtype.name}.as_numpy_dtype"
    setup = [
        f"{name} = np.full(16, {_literal(array[worst])}).astype({dtype})"
        for name, array in zip(function.arguments, inputs, strict=True)
    ]
    limit = float(figures["allowed_ulp"] or 0.0)
    unit = float(np.spacing(np.abs(truth[worst]).astype(np.float32))) if np.isfinite(truth[worst]) else 0.0
    unit *= 2.0 ** (24 - format_of(y.dtype).precision)
    title = f"{function.op} {y.dtype.name} is off by {figures['max_ulp_held']:.4g} ULP"
    expected = [f"expected = np.full(16, {_literal(truth[worst])})"]
    return reproducer(title, setup, function.call_text, expected, subject.place, allowed=f"{limit * unit:.6g}")


def _literal(number: Any) -> str:
    value = float(number)
    return f'float("{value}")' if not np.isfinite(value) else repr(value)


__all__ = ["BINARY", "UNARY", "call_of", "inputs_of", "probes", "reading_of"]
