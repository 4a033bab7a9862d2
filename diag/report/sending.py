"""What a person should send, and to whom, in plain words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from diag.report.to_do import reproducer_command
from diag.verdict.result import LaneInfo, RunResult

METAL = "tensorflow-metal"
SIMULATED_METAL = "sim:metal"  # the places of the catalogue that stand for Apple's


def is_on_metal(lane: LaneInfo) -> bool:
    """Whether a lane computed on Apple's GPU, or on a place that stands for it."""
    environment: Mapping[str, Any] = lane.environment
    is_a_mac = "mac" in str(environment.get("os", "")).lower() or METAL in environment
    return (is_a_mac and lane.place.startswith("GPU")) or lane.place.startswith(SIMULATED_METAL)


def what_to_send(result: RunResult) -> list[str]:
    """Lines for the end of the report; none where nothing diverges or no trace was kept."""
    first = result.first_fault
    if first is None or "trace" not in result.files:
        return []
    trace = shlex.quote(result.files["trace"])
    items = [
        f"The issue, ready to paste:  python -m diag.report {trace} --issue",
        "Your machine: the output of  python -m diag.doctor",
    ]
    if program := reproducer_command(result, first):
        items.append(
            f"A small program that shows the fault by itself:  {program}  (with reproducer.npz, which it writes too)"
        )
    items.append(
        f"Only if asked for:  python -m traces pack {trace}  writes the flagged step alone, with your model's weights "
        "and that batch; with --anonymous it leaves out the batch, paths and names, and cannot be replayed."
    )
    simulated = any(lane.is_simulated for lane in result.lanes)
    head = ["(Simulated: on a real device this is what you would send.)"] if simulated else []
    return [*head, *(f"{number}. {item}" for number, item in enumerate(items, start=1)), _where_to(result)]


def _where_to(result: RunResult) -> str:
    if any(map(is_on_metal, result.lanes)):
        return (
            "Where to: tensorflow-metal is Apple's own: feedbackassistant.apple.com, and developer.apple.com/forums "
            "under the tag tensorflow-metal. Say which TensorFlow and which tensorflow-metal; the doctor's output has "
            "both. docs/MAC.md says what each outcome means."
        )
    return (
        "Where to: github.com/tensorflow/tensorflow/issues, or who made the device's plugin. Say which TensorFlow, and "
        "which driver or plugin; the doctor's output has both."
    )
