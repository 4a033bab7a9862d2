"""Settings of this process that change arithmetic, each a context manager that puts back what was.

Kernels that TensorFlow chose and compiled while a setting was in force may outlive it: trials that have to be sure
run in a process of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import config

from diag.machine.switches import PASSES

META = "disable_meta_optimizer"
REWRITERS = ("remapping", "use_plugin_optimizers")  # either off: no rewriter of a plug-in fuses


@contextmanager
def tf32(enabled: bool | None) -> Iterator[None]:
    """TensorFloat-32 on or off; None leaves it as it is."""
    was = tf.config.experimental.tensor_float_32_execution_enabled()
    tf.config.experimental.enable_tensor_float_32_execution(was if enabled is None else enabled)
    try:
        yield
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(was)


@contextmanager
def op_determinism(enabled: bool) -> Iterator[None]:
    """TensorFlow's op determinism; False leaves it as it is."""
    was = config.is_op_determinism_enabled()
    if enabled:
        tf.config.experimental.enable_op_determinism()
    try:
        yield
    finally:
        if enabled and not was:
            config.disable_op_determinism()


@contextmanager
def as_recorded(environment: Mapping[str, Any], tf32_instead: bool | None = None) -> Iterator[None]:
    """TF32 and determinism as an environment in a trace has them, TF32 otherwise where a person says so."""
    recorded = bool(environment.get("tf32", True))
    with (
        tf32(recorded if tf32_instead is None else tf32_instead),
        op_determinism(bool(environment.get("op_determinism"))),
    ):
        yield


@contextmanager
def grappler_options(wanted: Mapping[str, bool]) -> Iterator[None]:
    """Grappler, which rewrites every graph that TensorFlow compiles, with these options and no other one set."""
    was = tf.config.optimizer.get_experimental_options()
    tf.config.optimizer.set_experimental_options({**dict.fromkeys(PASSES), META: False, **wanted})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({name: was.get(name) for name in (*PASSES, META)})


def runs_rewriters() -> bool:
    """Whether a rewriter of a plug-in would run on what is compiled now.

    A simulated rewriter stands for a remapper, the pass that fuses ops, which a device's plug-in brings with it
    (TensorFlow's `CustomGraphOptimizerRegistry`, RFC 20201027-modular-tensorflow-graph-c-api).  So it runs where
    such a pass would: inside grappler's meta optimizer, while neither remapping nor the optimizers of plug-ins
    are switched off.
    """
    options = tf.config.optimizer.get_experimental_options()
    return not options.get(META, False) and all(options.get(name, True) for name in REWRITERS)
