"""Tasks of a fleet, each in a process of its own: which GPUs a host has, and what one device answers."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf
import xxhash
from tensorflow.python.client import device_lib

from diag.common.command import is_on
from diag.errors import UserError
from diag.machine import settings
from diag.machine.environment import PROCESSOR
from diag.machine.places import parse_place
from diag.machine.tensorflow_import import import_tensorflow
from probes.fleet import bits
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import Measurement
from probes.frame.plan import Choice, Probe, carried_out, planned

VISIBLE = {"is_cuda_build": "CUDA_VISIBLE_DEVICES", "is_rocm_build": "HIP_VISIBLE_DEVICES"}
OF_A_KIND = (
    "chip",
    "tensorflow",
    "driver",
    "cuda",
    "cudnn",
    "rocm",
    "tensorflow-metal",
    "machine",
    "execution",
    "tf32",
)
"""Of an environment: what siblings have in common."""


def gpus() -> list[dict[str, Any]]:
    """Every GPU of this host: its label here, its place, and the variables under which that place is this GPU."""
    import_tensorflow()
    found = tf.config.list_physical_devices("GPU")
    build = tf.sysconfig.get_build_info()
    variable = next((name for key, name in VISIBLE.items() if build.get(key)), None)
    if variable is None or len(found) == 1:
        return [{"label": f"GPU:{n}", "place": f"GPU:{n}", "environment": {}} for n in range(len(found))]
    given = os.environ.get(variable)
    cards = given.split(",") if given else list(map(str, range(len(found))))
    return [
        {"label": f"GPU:{n}", "place": "GPU:0", "environment": {variable: cards[n].strip()}} for n in range(len(found))
    ]


def answers(place: str, choice: Mapping[str, Any], seed: int, tf32: str | None) -> dict[str, Any]:
    """What a device answers under op determinism, in two passes over all probes.

    Raises UserError where there is no such device.
    """
    import_tensorflow()
    ops, dtypes, families = (tuple(choice[name]) for name in ("ops", "dtypes", "families"))
    chosen = _planned(Choice(ops, dtypes, families, choice["quick"]))
    with settings.tf32(is_on(tf32)), settings.op_determinism(True), np.errstate(all="ignore"):
        device = ListeningDevice(parse_place(place), seed)
        first, second = list(_pass(chosen, device)), list(_pass(chosen, device))
        environment = device.environment()
    return {
        "place": str(device),
        "kind": _kind(environment),
        "identity": _identity(device.place.device),
        "probes": [
            {
                "family": probe.family,
                "op": probe.op,
                "dtype": probe.dtype,
                "case": probe.case,
                "bits": digest if digest == again else None,
                "readings": [[each.case, each.status, each.says] for each in readings],
            }
            for probe, (digest, readings), (again, _) in zip(chosen, first, second, strict=True)
        ],
    }


def _planned(choice: Choice) -> list[Probe]:
    """Every probe that is asked for; raises UserError where none is."""
    known = tuple(family for family in choice.families if family != bits.FAMILY)
    chosen = planned(replace(choice, families=known)) if known else []
    chosen += [probe for probe in bits.probes(choice) if choice.wants(probe)]
    if not chosen:
        raise UserError("no probe fits --op, --dtype and --family; leave one of them out")
    return chosen


class ListeningDevice(DeviceUnderTest):
    """Keeps a digest of all bits that are computed on it."""

    digest = xxhash.xxh3_128()  # of the probe that is under way

    def saw(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        if not all(array.size for array in inputs):
            return  # what is made of nothing may be whatever lay in memory (docs/PROBES.md)
        for output in outputs:
            if output.dtype.kind != "O":
                self.digest.update(f"{output.dtype.name} {output.shape}".encode())
                self.digest.update(output.tobytes())


def _pass(chosen: Sequence[Probe], device: ListeningDevice) -> Iterator[tuple[str, list[Measurement]]]:
    """The digest and the readings of each probe; the digest of these where it asks the device by another way."""
    for probe in chosen:
        device.digest = xxhash.xxh3_128()
        nothing = device.digest.digest()
        readings = list(carried_out([probe], device, lambda probe: None))
        if device.digest.digest() == nothing:
            device.digest.update(repr([(each.case, each.status, *each.figures.items()) for each in readings]).encode())
        yield device.digest.hexdigest(), readings


def _kind(environment: Mapping[str, Any]) -> dict[str, str]:
    details = dict(environment["device"])
    details.pop("name", None)
    if PROCESSOR in details:
        details["cores"] = str(os.cpu_count())  # among which a sum is divided
    return {**{name: str(environment[name]) for name in OF_A_KIND if name in environment}, **details}


def _identity(device: str) -> str:
    """The PCI bus id of a GPU; "" of what has none, or does not say."""
    if not device.startswith("GPU"):
        return ""
    with contextlib.suppress(RuntimeError, tf.errors.OpError):  # nothing to lose all answers for
        found = {each.name: each.physical_device_desc for each in device_lib.list_local_devices()}
        return bus_in(found.get(f"/device:{device}", ""))
    return ""


def bus_in(description: str) -> str:
    """Out of `device: 0, name: NVIDIA H100, pci bus id: 0000:1b:00.0, compute capability: 9.0`."""
    bus = re.search(r"pci bus id: ([\w:.]+)", description)
    return bus[1] if bus else ""
