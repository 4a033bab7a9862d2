"""Asks a source of random numbers at a place, and the same source at the CPU, and says what came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf

from diag.machine.places import parse_place
from diag.numerics.bits import same_bits
from diag.numerics.op_classes import is_random
from diag.numerics.ulp import ulp_distance
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement, Value
from probes.frame.fallback import check_placed, touches_floats
from probes.frame.reproducer import Expected, reproducer
from probes.randomness.distributions import Draws, Finding
from probes.randomness.source import FAMILY, Source

REFERENCE = "CPU:0/eager"
SEEDS = tuple(np.array(seed, np.int32) for seed in ((1, 2), (1, 2), (3, 2)))
NEAR = 2.0**-8  # two independent deviates are as near as this in 1 of 100 cases or fewer; Box and Muller's sines and
MOSTLY = 0.9  # logarithms are a few ULP apart between devices


def measurements(source: Source, num: int, device: DeviceUnderTest) -> Iterator[Measurement]:
    """One of whether it is a stream of that distribution at all, one of whether it is the CPU's."""
    draws = drawn(source, num, device)
    found = source.check(draws[0])
    wrong = [*_repetition(source, draws), *found.wrong]
    name = (FAMILY, source.op, source.dtype)
    figures: dict[str, Value] = dict(found.figures)
    case = " ".join(filter(None, (source.case, "draws")))
    if wrong:
        yield Measurement(*name, case, FAIL, "; ".join(wrong), figures, _program(source, found, device))
    else:
        yield Measurement(*name, case, PASS, _in_words(source, found), figures)
    case = " ".join(filter(None, (source.case, "stream")))
    try:
        reference = drawn(source, num, DeviceUnderTest(parse_place(REFERENCE), device.seed))
    except tf.errors.OpError:
        yield Measurement(*name, case, NOTE, f"{REFERENCE} has no such stream to compare with", {"same_stream": None})
        return
    yield _of_stream(name, case, draws[0], reference[0])


def drawn(source: Source, num: int, device: DeviceUnderTest) -> list[Draws]:
    """By a seed: with one seed, with it again, with another.  By state: two in a row."""
    tf.random.set_seed(device.seed + 1)  # also begins ops anew that keep their state in the kernel
    computation = device.computation(source.make(device, num))
    inputs: Sequence[tuple[np.ndarray, ...]] = [(seed,) for seed in SEEDS] if source.takes_seed else [(), ()]
    check_placed(device, computation, inputs[0], matters=lambda node: is_random(node.op) or touches_floats(node))
    return [computation(*each)[0] for each in inputs]


def _repetition(source: Source, draws: Sequence[Draws]) -> list[str]:
    wrong = []
    if source.takes_seed and not same_bits(draws[0], draws[1]):
        wrong.append("the same seed gives other numbers the second time")
    if same_bits(draws[0], draws[-1]):
        what = "another seed" if source.takes_seed else "the next call"
        wrong.append(f"{what} gives the same {draws[0].size:,} numbers: the generator does not advance")
    return wrong


def _program(source: Source, found: Finding, device: DeviceUnderTest) -> str:
    """Shows uniform numbers outside [0, 1); what else is wrong with a stream is no matter of one expression."""
    if not source.uniform or float(found.figures.get("largest", 0.0)) < 1.0:
        return ""
    title = f"{source.op} of {source.dtype} draws 1 or more; documented as from [0, 1)."
    count = f"tf.reduce_sum(tf.cast({source.uniform} >= 1, tf.int32))"
    return reproducer(title, [], count, Expected(["expected = 0  # draws of 1 or more"]), device.place)


def _in_words(source: Source, found: Finding) -> str:
    advances = "other seeds give other numbers" if source.takes_seed else "it advances"
    return f"{advances}; {found.figures['num_draws']:,} draws are distributed as they should be"


def _of_stream(name: tuple[str, str, str], case: str, draws: Draws, reference: Draws) -> Measurement:
    if same_bits(draws, reference):
        return Measurement(*name, case, PASS, f"bit for bit the stream of {REFERENCE}", {"same_stream": True})
    if np.issubdtype(draws.dtype, np.integer):
        same = False
    else:
        wide, other = draws.astype(np.float64), reference.astype(np.float64)
        near = np.abs(wide - other) <= NEAR * np.abs(other)
        same = bool(np.mean(near) >= MOSTLY)
    if not same:
        says = f"another stream than that of {REFERENCE} from the same seed: a fact, no fault"
        return Measurement(*name, case, NOTE, says, {"same_stream": False})
    distance = ulp_distance(draws, reference)
    share = np.mean(distance != 0)
    says = f"the stream of {REFERENCE}, {share:.1%} of it with other last bits (at most {distance.max():,} ULP)"
    figures: dict[str, Value] = {"same_stream": True, "max_ulp_from_cpu": int(distance.max())}
    return Measurement(*name, case, NOTE, says, figures)
