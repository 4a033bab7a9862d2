"""The machine a lane ran on: its chip, its driver, and the environment variables that may change arithmetic."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from diag.common.wording import shortened
from diag.machine.switches import RESTORED, in_force_of

PREFIXES = (
    "TF_", "XLA_", "MTL_", "METAL_", "NVIDIA_TF32_", "CUBLAS_", "CUDNN_", "ONEDNN_", "DNNL_", "MKL_", "OMP_", "KMP_",
    "ROCM_", "MIOPEN_", "ITEX_",
)  # fmt: skip
NAMES = (
    "TURN_OFF_REMAPPER", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "CUDA_FORCE_PTX_JIT", "CUDA_DISABLE_PTX_JIT",
    "HIP_VISIBLE_DEVICES", "KERAS_BACKEND",
)  # fmt: skip
OTHERS = (
    "TF_CPP_",  # how much TensorFlow says
    "TF_VAR_", "TF_TOKEN_", "TF_CLI_", "TF_HTTP_",  # Terraform's, passwords among them
    "KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK",  # set by libraries as they are imported
)  # fmt: skip
_SECRET = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|_KEY$|_AUTH$")
DRIVER = Path("/proc/driver/nvidia/version")
PROCESSORS = Path("/proc/cpuinfo")
WITHOUT_GPU = {"CUDA_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
"""The environment of a process that computes on none: each that sees one takes seconds and memory for it."""


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Package -> version, of those that are installed."""
    installed = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed


def variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Those that reach TensorFlow, its kernels or its plugins; a trace is sent around, so no secret."""
    return {
        name: value
        for name, value in sorted(environment.items())
        if (name in NAMES or name.startswith(PREFIXES)) and not name.startswith(OTHERS) and not _SECRET.search(name)
    }


def restore_variables(environment: Mapping[str, Any]) -> None:
    """Switches among environment variables as a trace recorded them, unless the person set them otherwise."""
    for name, value in in_force_of(environment).items():
        os.environ.setdefault(name, value)


def not_restored(environment: Mapping[str, Any]) -> str:
    """What is said of switches that a trace has set in a way that no file may; "" where there are none."""
    allowed = in_force_of(environment)
    others = {name: environment[name] for name in RESTORED if name in environment and name not in allowed}
    said = [shortened(f"{name}={value}", 200) for name, value in others.items() if os.environ.get(name) != value]
    return (
        f"not in force, since no file may set it so: {', '.join(said)}; set it yourself if you want it" if said else ""
    )


def processor() -> str:
    """The processor's name, on a Mac the chip's that holds the GPU too; "" where the system does not say."""
    if platform.system() == "Darwin":
        return _asked("sysctl", "-n", "machdep.cpu.brand_string")
    try:
        lines = PROCESSORS.read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "")


def nvidia_driver() -> str:
    """The kernel driver's version; "" where there is none."""
    try:
        text = DRIVER.read_text()
    except OSError:
        return ""
    version = re.search(r"\bNVRM version:.*?\s(\d+(?:\.\d+)+)\s", text)
    return version[1] if version else ""


def system() -> str:
    """The operating system as its users name it."""
    if platform.system() == "Darwin":
        return f"macOS {platform.mac_ver()[0]} ({platform.platform()})"
    return platform.platform()


def _asked(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
