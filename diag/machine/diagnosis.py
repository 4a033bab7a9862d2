"""What this machine is: devices, versions, the switches in force, and what is known to go wrong with them.

Where TensorFlow itself does not load, as with a plugin that does not fit it, the rest is reported all the same.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from diag.common.wording import first_line
from diag.machine import hardware as machine
from diag.machine.known_combinations import Combination, Device, Machine, matching, shipped

TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tf-nightly", "tensorflow-intel")
PACKAGES = (
    *TENSORFLOWS, "keras", "tf-keras", "numpy", "tensorflow-metal", "tensorflow-rocm", "tensorflow-directml-plugin",
    "intel-extension-for-tensorflow", "ml-dtypes", "h5py", "nvidia-cublas-cu12", "nvidia-cudnn-cu12",
    "nvidia-cuda-runtime-cu12",
)  # fmt: skip
ON_OR_OFF = ("tf32", "onednn", "op_determinism", "soft_placement")  # of environment_of, those that are on or off
BESIDE = ("driver", "cuda", "cudnn", "rocm", "plugins")


@dataclass(frozen=True)
class LoadedTensorFlow:
    """What only TensorFlow knows.  `logical` are its devices by name, `settings` other switches, in text."""

    devices: tuple[Device, ...]
    logical: tuple[str, ...]
    switches: Mapping[str, bool]
    settings: Mapping[str, str]
    libraries: Mapping[str, str]


@dataclass(frozen=True)
class Diagnosis:
    """`tensorflow` is None where it does not load; `error` then says in one line why."""

    machine: Machine
    operating_system: str
    chip: str
    tensorflow: LoadedTensorFlow | None
    error: str
    variables: Mapping[str, str] = field(default_factory=dict)
    combinations: tuple[Combination, ...] = ()

    @property
    def is_bad(self) -> bool:
        return bool(self.error) or any(row.is_bad for row in self.combinations)


def diagnose() -> Diagnosis:
    """This machine, held against the combinations that come with the program."""
    variables = machine.variables(os.environ)  # before loading, which sets some
    loaded, error = _load()
    here = Machine(
        installed(),
        platform.python_version(),
        platform.system(),
        platform.machine(),
        loaded.devices if loaded else (),
        loaded.switches if loaded else {},
    )
    return Diagnosis(
        here, machine.system(), machine.processor(), loaded, error, variables, matching(here, shipped())
    )  # fmt: skip


def installed() -> dict[str, str]:
    """Package -> version; TensorFlow's under its own name, whichever of its packages is installed."""
    versions = machine.versions(PACKAGES)
    version = next((versions[name] for name in TENSORFLOWS if name in versions), None)
    return versions if version is None else {"tensorflow": version, **versions}


def _load() -> tuple[LoadedTensorFlow | None, str]:
    try:
        from diag.machine.tensorflow_import import import_tensorflow

        import_tensorflow()
        return _loaded(), ""
    except Exception as error:  # whatever a plugin or a broken installation raises: it is what was asked for
        return None, f"{type(error).__name__}: {first_line(error) or 'no message'}"


def _loaded() -> LoadedTensorFlow:
    import keras
    import tensorflow as tf

    from diag.machine.environment import device_details, environment_of
    from diag.machine.places import parse_place

    physical = tf.config.list_physical_devices()
    names = [device.name.removeprefix("/physical_device:") for device in physical]
    kind_first = {name: parse_place(name) for name in names if name.startswith(("CPU", "GPU"))}
    devices = tuple(
        Device(device.device_type, name, device_details(kind_first[name]) if name in kind_first else {})
        for device, name in zip(physical, names, strict=True)
    )
    main = next((place for name, place in kind_first.items() if name.startswith("GPU")), parse_place("CPU:0"))
    environment: dict[str, Any] = environment_of(main)
    return LoadedTensorFlow(
        devices,
        tuple(device.name.removeprefix("/device:") for device in tf.config.list_logical_devices()),
        {name: bool(environment[name]) for name in ON_OR_OFF},
        {
            "mixed precision": keras.config.dtype_policy().name,
            "XLA's autoclustering": str(tf.config.optimizer.get_jit() or "off"),
            "grappler": _grappler(tf.config.optimizer.get_experimental_options()),
        },
        {name: str(environment[name]) for name in BESIDE if name in environment},
    )


def _grappler(options: Mapping[str, Any]) -> str:
    if options.get("disable_meta_optimizer"):
        return "off"
    off = [name for name, value in options.items() if value is False and not name.startswith("disable_")]
    return f"on, without {', '.join(sorted(off))}" if off else "on"
