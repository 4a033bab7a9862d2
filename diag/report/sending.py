"""What a person with a Mac should send, and to whom, in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from diag.common.wording import flag_of
from diag.verdict.result import LaneInfo, RunResult

METAL = "tensorflow-metal"
SIMULATED_METAL = "sim:metal"  # the places of the catalogue that stand for Apple's


def is_on_metal(lane: LaneInfo) -> bool:
    """Whether a lane computed on Apple's GPU, or on a place that stands for it."""
    environment: Mapping[str, Any] = lane.environment
    is_a_mac = "mac" in str(environment.get("os", "")).lower() or METAL in environment
    return (is_a_mac and lane.place.startswith("GPU")) or lane.place.startswith(SIMULATED_METAL)


def what_to_send(result: RunResult) -> list[str]:
    """Lines for the end of the report; none where nothing diverges or no Mac is concerned."""
    first = result.first_divergence
    if first is None or "trace" not in result.files or not any(map(is_on_metal, result.lanes)):
        return []
    trace, step = shlex.quote(result.files["trace"]), first.where.step
    is_op = first.where.unit == "op"
    name = f"--op {first.where.op_index}" if is_op else flag_of("--layer", str(first.where.layer))
    simulated = any(lane.is_simulated for lane in result.lanes)
    parts = ["(Simulated: on a real Mac this is what you would send.)"] if simulated else []
    number = len(parts)
    parts += [
        "1. This report: the text above, and report.json beside the trace.",
        "2. Your machine: the output of  python -m diag.doctor",
    ]
    if first.where.unit != "step" and first.where.layer:
        parts.append(
            f"3. A small program that shows the fault by itself:  python -m diag.replay {trace} --step {step} {name} "
            "--place GPU:0 --emit reproducer.py  (it writes reproducer.npz too; both go together)"
        )
    last = len(parts) + 1 - number
    parts.append(
        f"{last}. Only if asked for, and only if your data are not private: {trace}, which holds your model's weights "
        "and the batches it saw."
    )
    parts.append(
        "Where to: tensorflow-metal is Apple's own: feedbackassistant.apple.com, and developer.apple.com/forums under "
        "the tag tensorflow-metal. Say which TensorFlow and which tensorflow-metal; the doctor's output has both. "
        "docs/MAC.md says what each outcome means."
    )
    return parts
