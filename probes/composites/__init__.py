"""Keras activations, losses and normalizations, forward and gradient, against the same graph in float64."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from diag.machine.places import Place
from diag.numerics.bounds import where_both_overflow
from diag.numerics.formats import format_of
from diag.numerics.ulp import ulp_error
from probes.accuracy.samples import DTYPES
from probes.composites.composite_programs import program
from probes.composites.compositions import Composition, compositions
from probes.composites.rounding_noise import Excess, excess_of
from probes.composites.wide import Arrays, Wide
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement, Value
from probes.frame.fallback import check_placed
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

FAMILY = "composites"
CPU = Place("CPU:0", "eager")


def probes(choice: Choice) -> Iterator[Probe]:
    """Hard cases in float32 only: in narrower formats they say little more, and XLA takes a second for each four."""
    for composition in compositions():
        for dtype_name in FLOAT_DTYPES:
            if (composition.case or choice.quick) and dtype_name != "float32":
                continue
            if choice.quick and composition.case:
                continue
            run = functools.partial(_read, composition, dtype_name)
            yield Probe(FAMILY, composition.name, dtype_name, composition.case, run)


def _read(composition: Composition, dtype_name: str, device: DeviceUnderTest) -> Iterator[Measurement]:
    seed = zlib.crc32(f"{composition.name} {composition.case} {device.seed}".encode())
    generator = np.random.default_rng(seed)
    arrays = composition.inputs(DTYPES[dtype_name], generator)
    computation = device.computation(forward_and_gradient(composition, dtype_name, seed))
    try:
        wide = Wide(computation, arrays, noisy_inputs=composition.sums)
    except ValueError as error:  # Keras itself has no such function of this dtype
        raise tf.errors.UnimplementedError(None, None, str(error)) from error
    check_placed(device, computation, arrays)
    outputs = computation(*arrays)
    reference = None
    if any(not np.isfinite(y).all() for y in outputs if y.dtype.kind not in "biu"):
        reference = DeviceUnderTest(CPU, device.seed).computation(computation.function)(*arrays)

    def shown(worst: Excess, name: str) -> str:
        upstream = _upstream(outputs[0].shape, seed) if name == "gradient" else None
        return program(composition, dtype_name, arrays, upstream, worst, device.place)

    yield measurement_of(composition, dtype_name, outputs, wide, reference, shown)


def forward_and_gradient(composition: Composition, dtype_name: str, seed: int) -> Callable[..., list[Any]]:
    """A function to the results and the gradients, of an upstream gradient that is drawn once."""
    call = composition.make(dtype_name)

    def run(*tensors: Any) -> list[Any]:
        watched = tensors[: composition.num_differentiated]
        with tf.GradientTape() as tape:
            tape.watch(watched)
            results = tf.nest.flatten(call(*tensors))
        upstream = tf.constant(_upstream(tuple(results[0].shape), seed), results[0].dtype)
        gradients = tape.gradient(results[0], watched, upstream)
        return [*results, *(g for g in gradients if g is not None)]

    return run


def _upstream(shape: tuple[int, ...], seed: int) -> npt.NDArray[np.float64]:
    """Numbers that every format holds."""
    return np.random.default_rng(seed).choice([0.5, 1.0, -1.0, 2.0], shape)


def measurement_of(
    composition: Composition,
    dtype_name: str,
    outputs: Sequence[npt.NDArray[Any]],
    wide: Wide,
    reference: Sequence[npt.NDArray[Any]] | None = None,
    shown: Callable[[Excess, str], str] = lambda worst, name: "",
) -> Measurement:
    """What the outputs are worth.

    reference: what the CPU gives; the NaN and infinities that it has too are the formula's, in a narrow format.
    shown: a program that shows the worst element of an output of that name.
    """
    exact, noisy = wide.truth(), wide.noisy()
    truth = exact
    if reference is not None:
        truth = [where_both_overflow(y, own, r) for y, own, r in zip(outputs, reference, exact, strict=True)]
    num_alike = sum(int(np.count_nonzero(np.isfinite(r) & ~np.isfinite(t))) for r, t in zip(exact, truth, strict=True))
    found = [
        excess_of(y, r, [sample[index] for sample in noisy], wide.unit_roundoff, composition.terms, composition.mixes)
        for index, (y, r) in enumerate(zip(outputs, truth, strict=True))
    ]
    worst = max(range(len(found)), key=lambda index: found[index].excess)
    names = _names(composition, len(found))
    figures: dict[str, Value] = {"excess": _rounded(found[worst].excess), "worst_output": names[worst]}
    for name, y, r in zip(names, outputs, truth, strict=True):
        figures[f"max_ulp_{name}"], figures[f"normwise_{name}"] = _error(y, r)
    unjudged = _why_unjudged(wide, exact, noisy)
    if unjudged:
        says = f"not judged: {unjudged}; {_errors(figures)}"
        return Measurement(FAMILY, composition.name, dtype_name, composition.case, NOTE, says, figures)
    status = FAIL if found[worst].excess > 1 else NOTE if num_alike else PASS
    says = _says(found[worst], names[worst], figures, status)
    if num_alike:
        figures["num_not_finite"] = num_alike
        says += f"; {num_alike:,} results not finite though float64's are, on the CPU as well"
    reproducer = shown(found[worst], names[worst]) if status == FAIL else ""
    return Measurement(FAMILY, composition.name, dtype_name, composition.case, status, says, figures, reproducer)


def _why_unjudged(wide: Wide, exact: Arrays, noisy: Sequence[Arrays]) -> str:
    if wide.unpromoted:
        return f"no float64 kernel of {', '.join(sorted(wide.unpromoted))}"
    lost = any(np.any(np.isfinite(r) & ~np.isfinite(x)) for sample in noisy for r, x in zip(exact, sample, strict=True))
    return "in float64 too, one rounding of each op makes it infinite or NaN" if lost else ""


def _names(composition: Composition, number: int) -> list[str]:
    """Results and gradients: y, gradient; of a layer in training also its statistics."""
    gradients = ["gradient", "gradient_gamma", "gradient_beta"][: composition.num_differentiated]
    results = ["y", "mean", "variance"][: number - len(gradients)]
    return [*results, *gradients][:number]


def _error(y: npt.NDArray[Any], truth: npt.NDArray[np.float64]) -> tuple[float, float]:
    format = format_of(y.dtype)
    with np.errstate(all="ignore"):
        error = np.abs(ulp_error(y, truth, format, flushed=format.is_flushed))
        finite = np.isfinite(truth) & np.isfinite(y.astype(np.float64))
        norm = float(np.linalg.norm(truth[finite]))
        distance = float(np.linalg.norm(y.astype(np.float64)[finite] - truth[finite]))
    largest = float(np.max(np.nan_to_num(error, nan=np.inf), initial=0.0))
    return _rounded(largest), _rounded(distance / norm if norm else distance)


def _rounded(figure: float) -> float:
    return float(f"{figure:.4g}")


def _says(worst: Excess, name: str, figures: dict[str, Value], status: str) -> str:
    errors = _errors(figures)
    if status != FAIL:
        return f"{errors}; {worst.excess:.2g} of what rounding explains"
    return (
        f"{errors}; {name} is off by {worst.excess:.3g} times what rounding explains: {worst.got!r} for {worst.right!r}"
    )


def _errors(figures: dict[str, Value]) -> str:
    text = f"at most {figures['max_ulp_y']} ULP"
    return text + (f", gradient {figures['max_ulp_gradient']}" if "max_ulp_gradient" in figures else "")
