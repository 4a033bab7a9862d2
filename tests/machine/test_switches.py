"""Where a switch can change nothing it is not tried."""

from __future__ import annotations

from diag.machine.places import parse_place
from diag.machine.switches import PASSES, SWITCHES, switches_for


def tried(place: str, **environment: object) -> set[str]:
    return {switch.name for switch in switches_for(parse_place(place), environment)[0]}


def test_where_a_switch_says_nothing_it_is_not_tried_and_the_reason_is_given():
    cpu = tried("CPU:0", onednn=True)
    assert "execution=graph" not in cpu and {"execution=eager", "execution=xla"} <= cpu
    assert not {"tf32=off", "TURN_OFF_REMAPPER=1"} & cpu
    assert "onednn=off" not in tried("CPU:0", onednn=False)
    assert "tf32=off" in tried("GPU:0", tf32=True)
    assert "tf32=off" not in tried("GPU:0", tf32=False)
    assert "TURN_OFF_REMAPPER=1" in tried("GPU:0", **{"tensorflow-metal": "1.2.0"})
    assert "TURN_OFF_REMAPPER=1" not in tried("sim:metal-fused-dense", **{"tensorflow-metal": "1.2.0"})
    assert not {name for name in tried("CPU:0/eager") if name.startswith(("grappler", *PASSES))}
    _, skipped = switches_for(parse_place("CPU:0"), {})
    assert set(SWITCHES) - cpu == set(skipped) - {"another policy of the whole model"}
    assert all(skipped.values())
