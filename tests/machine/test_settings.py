"""Settings of the process: each is in force inside its block, and what was before is put back after it."""

from __future__ import annotations

import pytest
import tensorflow as tf
from tensorflow.python.framework import config

from diag.machine import settings
from diag.machine.switches import PASSES, SWITCHES


def grappler():
    return tf.config.optimizer.get_experimental_options()


def tf32():
    return tf.config.experimental.tensor_float_32_execution_enabled()


@pytest.mark.parametrize("name", PASSES)
def test_every_pass_is_one_that_this_tensorflow_turns_off(name):
    before = grappler()
    with settings.grappler_options({name: False}):
        assert [other for other in PASSES if grappler().get(other) is False] == [name]
    assert grappler() == before


def test_code_to_paste_does_what_the_switch_does():
    for name in ("grappler=off", *(f"{each}=off" for each in PASSES)):
        with settings.grappler_options({}):
            exec(SWITCHES[name].code, {"tf": tf})
            pasted = grappler()
        with settings.grappler_options(SWITCHES[name].grappler):
            assert pasted == grappler()


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
    with settings.grappler_options(options):
        assert settings.runs_rewriters() is runs


def test_options_set_before_are_put_back_after_an_error():
    with settings.grappler_options({"remapping": False, "disable_meta_optimizer": True}):
        before = grappler()
        with pytest.raises(ValueError), settings.grappler_options({"constant_folding": False}):
            assert "remapping" not in grappler()
            raise ValueError
        assert grappler() == before


def test_tf32_and_determinism_are_as_recorded_inside_the_block_only():
    before = tf32()
    for recorded, instead, expected in ((False, None, False), (True, False, False), (False, True, True)):
        with settings.as_recorded({"tf32": recorded, "op_determinism": True}, instead):
            assert (tf32(), config.is_op_determinism_enabled()) == (expected, True)
        assert (tf32(), config.is_op_determinism_enabled()) == (before, False)
    with settings.tf32(None), settings.op_determinism(False):
        assert (tf32(), config.is_op_determinism_enabled()) == (before, False)


def test_determinism_that_was_on_stays_on():
    with settings.op_determinism(True):
        with settings.op_determinism(True):
            pass
        assert config.is_op_determinism_enabled()
    assert not config.is_op_determinism_enabled()
