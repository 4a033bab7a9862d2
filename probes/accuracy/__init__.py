"""How far off each elementwise op is, in ULP, and where: against float64, beside what is published."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.machine.places import Place
from diag.numerics.formats import format_of
from probes.accuracy import casts, samples
from probes.accuracy.allowed import limits_of
from probes.accuracy.elementwise import FUNCTIONS, UNARY, Function
from probes.accuracy.op_call import computation_of
from probes.accuracy.subnormals import subnormal_facts
from probes.accuracy.tally import judged, tally
from probes.accuracy.ulp_measurements import FAMILY, TalliedErrors, measurement
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import Measurement, Value
from probes.frame.fallback import check_placed
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

Arrays = tuple[npt.NDArray[Any], ...]


def probes(choice: Choice) -> Iterator[Probe]:
    if choice.exhaustive:
        from probes.accuracy import exhaustive

        yield from exhaustive.probes(choice)
        return
    num_samples = samples.NUM_QUICK if choice.quick else samples.NUM_SAMPLES
    for function in FUNCTIONS:
        for dtype_name in FLOAT_DTYPES:
            run = functools.partial(_read, function, dtype_name, num_samples)
            yield Probe(FAMILY, function.op, dtype_name, "", run)
    yield from casts.probes(choice)


def inputs_of(function: Function, dtype_name: str, num_samples: int, seed: int) -> Arrays:
    if function in UNARY:
        return (samples.inputs(dtype_name, num_samples, seed),)
    return samples.pairs(dtype_name, function.exponents, num_samples, seed)


def _read(function: Function, dtype_name: str, num_samples: int, device: DeviceUnderTest) -> Iterator[Measurement]:
    arrays = inputs_of(function, dtype_name, num_samples, device.seed)
    computation = computation_of(function, device)
    check_placed(device, computation, arrays)
    yield measurement_of(function, arrays, computation(*arrays)[0], device.place)


def measurement_of(function: Function, arrays: Arrays, y: npt.NDArray[Any], place: Place) -> Measurement:
    """What an op's results `y` of these arguments are worth."""
    facts: dict[str, Value] = {}
    with np.errstate(all="ignore"):
        wide = [array.astype(np.float64) for array in arrays]
        truth = np.asarray(function.truth(*wide), np.float64)
        chosen = judged(function, arrays, wide)
        if function in UNARY:
            facts = subnormal_facts(function.truth, wide[0], truth, y, format_of(y.dtype))
    limits = limits_of(function.op, y.dtype.name, place, function.terms_ulp)
    found = tally(function, [array[chosen] for array in arrays], y[chosen], truth[chosen], limits)
    return measurement(TalliedErrors(function, y.dtype.name, found, limits), "", place, facts)
