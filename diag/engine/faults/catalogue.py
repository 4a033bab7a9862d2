"""The simulated places `sim:NAME`: one module per family of faults, one function per place.

Each function makes a fresh `Simulation`.  Faults reported in public for a real stack and faults
that are only plausible stand side by side; none knows which model it runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diag.common.user_code import load_function
from diag.common.wording import did_you_mean
from diag.engine.faults import (
    approximations,
    bits,
    fusions,
    input_formats,
    random_streams,
    stale,
    subnormals,
    sums,
    updates,
    winograd,
    wrong_elements,
)
from diag.engine.faults.simulation import Simulation
from diag.errors import UserError
from diag.machine.places import Place

_PLACES: dict[str, Callable[[], Simulation]] = {
    "bf16-inputs": input_formats.bf16_inputs,
    "conv1d-last-channel": wrong_elements.conv1d_last_channel,
    "exp-log-approx": approximations.exp_log_approx,
    "filter-grad-tail": wrong_elements.filter_grad_tail,
    "flush-subnormals": subnormals.flush_subnormals,
    "fp16-accumulate": sums.fp16_accumulate,
    "fp16-adam-epsilon": subnormals.fp16_adam_epsilon,
    "fused-adam-no-bias-correction": fusions.fused_adam_no_bias_correction,
    "gemm-11bit": input_formats.gemm_11bit,
    "ignored-found-inf": updates.ignored_found_inf,
    "metal-fused-dense": fusions.metal_fused_dense,
    "one-bit": bits.one_bit,
    "reordered-sums": sums.reordered_sums,
    "rng-frozen": random_streams.rng_frozen,
    "rng-other-stream": random_streams.rng_other_stream,
    "rsqrt-12bit": approximations.rsqrt_12bit,
    "skipped-update": updates.skipped_update,
    "stale-partial-batch": stale.stale_partial_batch,
    "strided-read": wrong_elements.strided_read,
    "tf32": input_formats.tf32,
    "tf32-truncate": input_formats.tf32_truncate,
    "topk-16": wrong_elements.topk_16,
    "winograd-4x4": winograd.winograd_4x4,
}


def catalogue() -> dict[str, Callable[[], Simulation]]:
    """What makes each simulated place, by name."""
    return dict(_PLACES)


def simulation_of(place: Place) -> Simulation | None:
    """The simulation that a place names, None for a real device.

    Raises UserError for an unknown name, an unreadable file or a missing function, and for a file that a trace names
    and no person does: to load it is to run it.
    """
    if place.simulation is None:
        return None
    if place.names_file and place.is_recorded:
        raise UserError(f"{place}: no file is run because a trace names it; name it yourself with --place")
    if place.names_file:
        function = load_function(place.simulation, "a function")
        label = f"{Path(place.simulation.rpartition(':')[0]).name}:{place.simulation.rpartition(':')[2]}"
        if place.simulation_kind == "rewrite":
            return Simulation(label, rewriter=function)
        return Simulation(label, fault=function)
    known = catalogue()
    if place.simulation not in known:
        raise UserError(
            f"sim:{place.simulation} is unknown; expected one of {', '.join(sorted(known))}, or sim:FILE.py:FUNCTION"
            f"{did_you_mean(place.simulation, known)}"
        )
    return known[place.simulation]()
