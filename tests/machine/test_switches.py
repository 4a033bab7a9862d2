"""The registry against TensorFlow's own list, and where a switch says nothing."""

from __future__ import annotations

import pytest
import tensorflow as tf

from diag.machine import grappler
from diag.machine.places import parse_place
from diag.machine.switches import PASSES, SWITCHES, switches_for


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    grappler.set_options({})


def test_every_pass_is_one_that_this_tensorflow_turns_off():
    assert set(PASSES) == set(grappler.OPTIONS)
    for name in PASSES:
        grappler.set_options({name: False})
        found = tf.config.optimizer.get_experimental_options()
        assert found[name] is False
        assert [other for other in PASSES if found.get(other) is False] == [name]


def test_code_to_paste_does_what_the_switch_does():
    for name in ("grappler=off", *(f"{each}=off" for each in PASSES)):
        grappler.set_options({})
        exec(SWITCHES[name].code, {"tf": tf})
        pasted = tf.config.optimizer.get_experimental_options()
        grappler.set_options(SWITCHES[name].grappler)
        assert pasted == tf.config.optimizer.get_experimental_options()


@pytest.mark.parametrize(
    ("options", "runs"),
    [
        ({}, True),
        ({"constant_folding": False}, True),
        ({"remapping": False}, False),
        ({"use_plugin_optimizers": False}, False),
        ({"disable_meta_optimizer": True}, False),
    ],
)
def test_rewriters_run_where_a_plug_in_s_would(options, runs):
    grappler.set_options(options)
    assert grappler.runs_rewriters() is runs


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
