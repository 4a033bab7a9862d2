"""Optimizers: a few steps on known gradients, held against exact arithmetic and what rounding allows.

The gradients are tiny, huge, zero, exact and of both signs; half of the weights are 0, where the update shows all of
its bits.  Each step is judged from the state that the place itself had before it.  An element fails where it lies
outside the interval that the roundings of the formula allow (enclosure.py, update_rules.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from probes.frame.device_report import Measurement
from probes.frame.plan import Choice, Probe
from probes.optimizers.setups import DTYPES, FAMILY, QUICK, SETUPS, Setup


def probes(choice: Choice) -> Iterator[Probe]:
    from probes.optimizers import loss_scaling

    for dtype in DTYPES:
        for setup in SETUPS:
            if not choice.quick or (setup.name, setup.case) in QUICK:
                yield Probe(FAMILY, setup.name, dtype, setup.case, _running(setup, dtype))
    yield from loss_scaling.probes(choice)


def _running(setup: Setup, dtype: str) -> Callable[[Any], Iterator[Measurement]]:
    def run(device: Any) -> Iterator[Measurement]:
        from probes.optimizers.judging_steps import judged

        yield from judged(device, setup, dtype)

    return run
