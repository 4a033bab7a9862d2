"""This process's switches: set, read, put back as a trace recorded them."""

from __future__ import annotations

import os
from typing import Any

# Switches that TensorFlow reads from the environment once, when it is loaded.
SWITCHES = ("TF_ENABLE_ONEDNN_OPTS", "NVIDIA_TF32_OVERRIDE", "TF_DETERMINISTIC_OPS", "XLA_FLAGS", "TURN_OFF_REMAPPER")


def use_tf32(enabled: bool) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(enabled)


def use_determinism() -> None:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def restore_switches(environment: dict[str, Any]) -> None:
    """Environment variables as they were, unless the person set them otherwise."""
    for name in SWITCHES:
        if name in environment:
            os.environ.setdefault(name, str(environment[name]))


def restore_settings(environment: dict[str, Any], tf32: str | None) -> None:
    import tensorflow as tf

    wanted = environment.get("tf32", True) if tf32 is None else tf32 == "on"
    tf.config.experimental.enable_tensor_float_32_execution(bool(wanted))
    if environment.get("op_determinism"):
        tf.config.experimental.enable_op_determinism()
