"""Ops held against exact integers: any difference is a bug.

Inputs are integers in [-2, 2], 80% of them zeros or more, so that every partial sum, in any order, is an integer that
the dtype holds, and every operand one that TF32 and bfloat16 hold.  The right answer comes from NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator

from probes.exact import (
    accumulators,
    blocks,
    convolutions,
    depthwise,
    gathers,
    history,
    movement,
    ordering,
    pooling,
    products,
    space,
    sums,
    variables,
)
from probes.frame.plan import Choice, Probe

MODULES = (
    products, convolutions, depthwise, pooling, sums, accumulators, gathers, ordering, movement, space, blocks, history,
    variables,
)  # fmt: skip


def probes(choice: Choice) -> Iterator[Probe]:
    for module in MODULES:
        yield from module.probes(choice)
