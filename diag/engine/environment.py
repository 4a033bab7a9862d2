"""What a lane ran on: versions, device, and the switches that change arithmetic."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.places import Place

# Environment variables that change what is computed; each is reported if it is set.
VARIABLES = (
    "TF_ENABLE_ONEDNN_OPTS", "NVIDIA_TF32_OVERRIDE", "TF_DETERMINISTIC_OPS", "TF_CUDNN_DETERMINISTIC", "XLA_FLAGS",
    "TF_XLA_FLAGS", "TURN_OFF_REMAPPER", "TF_GPU_ALLOCATOR", "TF_CUDNN_USE_AUTOTUNE", "CUDA_VISIBLE_DEVICES",
)  # fmt: skip
PLUGINS = ("tensorflow-metal", "tensorflow-cpu", "tensorflow-macos")


def environment_of(place: Place) -> dict[str, Any]:
    """Name -> value, JSON-safe."""
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "os": platform.platform(),
        "machine": platform.machine(),
        "device": device_details(place),
        "execution": place.execution,
        "policy": place.policy or "float32",
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "soft_placement": tf.config.get_soft_device_placement(),
        "op_determinism": _determinism(),
        **{name: metadata.version(name) for name in PLUGINS if _installed(name)},
        **{name: os.environ[name] for name in VARIABLES if name in os.environ},
    }


def device_details(place: Place) -> dict[str, Any]:
    kind, _, number = place.device.partition(":")
    devices = tf.config.list_physical_devices(kind)
    if kind == "CPU" or int(number) >= len(devices):
        return {"name": place.device, "processor": processor_name()}
    details = tf.config.experimental.get_device_details(devices[int(number)])
    return {"name": place.device, **{key: str(value) for key, value in details.items()}}


def processor_name() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")
    except OSError:
        return platform.processor()


def _determinism() -> bool:
    from tensorflow.python.framework import config

    return bool(config.is_op_determinism_enabled())


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
