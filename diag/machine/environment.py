"""What a lane ran on: versions, device, and the switches that change arithmetic."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config
from tensorflow.python.util import _pywrap_util_port

from diag.machine import hardware as machine
from diag.machine.places import Place

PLUGINS = (
    "tensorflow-metal", "tensorflow-cpu", "tensorflow-macos", "tensorflow-rocm", "tensorflow-directml-plugin",
    "intel-extension-for-tensorflow", "tf-nightly",
)  # fmt: skip
PROCESSOR = "processor"
GPU_LIBRARIES = ("nvidia-cublas-cu12", "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12")
"""The wheels of `pip install tensorflow[and-cuda]`, whose kernels run; TensorFlow only knows what it was built with."""


def environment_of(place: Place) -> dict[str, Any]:
    """Name -> value, JSON-safe: texts and truths, but for `device`, which maps names to texts."""
    device = device_details(place)
    return {
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "os": machine.system(),
        "machine": platform.machine(),
        "device": device,
        "chip": chip(device),
        "execution": place.execution,
        "policy": place.policy or "float32",
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "onednn": bool(_pywrap_util_port.IsMklEnabled()),
        "soft_placement": tf.config.get_soft_device_placement(),
        "op_determinism": bool(config.is_op_determinism_enabled()),
        **machine.versions(PLUGINS),
        **_plugin_libraries(),
        **({} if PROCESSOR in device else _gpu_libraries()),
        **machine.variables(os.environ),
    }


def device_details(place: Place) -> dict[str, str]:
    kind, _, number = place.device.partition(":")
    devices = tf.config.list_physical_devices(kind)
    if kind == "CPU" or int(number) >= len(devices):
        return {"name": place.device, PROCESSOR: machine.processor()}
    details = tf.config.experimental.get_device_details(devices[int(number)])
    return {"name": place.device, **{key: str(value) for key, value in details.items()}}


def chip(device: dict[str, str]) -> str:
    """What computed. Metal's device has no name but "METAL": there it is the chip that holds the GPU too."""
    name = device.get("device_name", "")
    return machine.processor() if name in ("", "METAL") else name


def _gpu_libraries() -> dict[str, str]:
    build = tf.sysconfig.get_build_info()
    libraries = {
        "driver": machine.nvidia_driver(),
        "cuda": build.get("cuda_version", ""),
        "cudnn": build.get("cudnn_version", ""),
        "rocm": build.get("rocm_version", ""),
    }
    return {name: str(version) for name, version in libraries.items() if version} | machine.versions(GPU_LIBRARIES)


def _plugin_libraries() -> dict[str, str]:
    """What TensorFlow loads of plugins: all libraries of this folder beside its own."""
    folder = Path(tf.__file__).parents[1] / "tensorflow-plugins"
    names = sorted(path.name for path in folder.glob("*") if path.suffix in (".so", ".dylib", ".dll", ".pyd"))
    return {"plugins": ", ".join(names)} if names else {}
