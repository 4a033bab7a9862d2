"""The simulated places `sim:NAME`: one module per family of faults, one function per place.

Each function makes a fresh `Simulation`.  Faults reported in public for a real stack and faults
that are only plausible stand side by side; none knows which model it runs in.
"""

from __future__ import annotations

from collections.abc import Callable

from diag.engine.faults import Simulation
from diag.engine.simulated import bits, fusions, input_formats, random_streams, updates

_PLACES: dict[str, Callable[[], Simulation]] = {
    "metal-fused-dense": fusions.metal_fused_dense,
    "one-bit": bits.one_bit,
    "rng-frozen": random_streams.rng_frozen,
    "skipped-update": updates.skipped_update,
    "tf32": input_formats.tf32,
}


def catalogue() -> dict[str, Callable[[], Simulation]]:
    """What makes each simulated place, by name."""
    return dict(_PLACES)
