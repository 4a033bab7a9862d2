"""Optimizers: a few steps on known gradients, held against exact arithmetic and what rounding allows.

The gradients are tiny, huge, zero, exact and of both signs; half of the weights are 0, where the update shows all of
its bits.  Each step is judged from the state that the place itself had before it.  An element fails where it lies
outside the interval that the roundings of the formula allow (enclosure.py, update_rules.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from probes.frame.plan import Choice, Probe
from probes.optimizers import loss_scaling
from probes.optimizers.judging_steps import judged
from probes.optimizers.setups import DTYPES, FAMILY, QUICK, SETUPS


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in DTYPES:
        for setup in SETUPS:
            if not choice.quick or (setup.name, setup.case) in QUICK:
                run = partial(judged, setup=setup, dtype=dtype)
                yield Probe(FAMILY, setup.name, dtype, setup.case, run)
    yield from loss_scaling.probes(choice)
