"""What kind of place an op is computed at, as the table of allowances knows them."""

from __future__ import annotations

import sys
from typing import Any

import tensorflow as tf

from diag.engine.graphs.pinning import is_pinned
from diag.engine.graphs.tf_runtime import has_kernel
from diag.machine.places import Place
from diag.numerics.allowances import DEFAULT_PLACE

# Only one processor's kernels were measured on every number, and other libraries' functions are as sound (NumPy's
# exp of float32: 2.28 ULP); but all compute narrow formats in float32 and round once.
CPU = ("tensorflow-cpu", DEFAULT_PLACE)
CPU_NARROW = ("tensorflow-cpu",)
NARROW = ("float16", "bfloat16")
# Some of TensorFlow's GPU kernels call CUDA's functions, others XLA's approximations, and which does what changes
# with the version; no measurement of ours supports being stricter than the widest.
CUDA = ("cuda", "xla-gpu", DEFAULT_PLACE)
# Fast math, Metal's default, promises less than the precise table, and for some functions nothing in ULP.
METAL = ("metal", DEFAULT_PLACE)


def kinds_of(
    place: Place, op_type: str, attrs: dict[str, Any], proto: Any, dtype_name: str = "float32"
) -> tuple[str, ...]:
    """The kinds that an op executed eagerly at a place may be of; it is held to the widest of their rows.

    dtype_name: of its result.

    A simulated place is this CPU with a fault: it is held to what the CPU's kernels are.  So is an op that has no
    kernel on the device, which TensorFlow computes on the CPU.
    """
    device = place.device.split(":")[0]
    if device == "CPU" or is_pinned(proto) or not has_kernel(op_type, attrs, device):
        return CPU_NARROW if dtype_name in NARROW else CPU
    if sys.platform == "darwin":
        return METAL
    return CUDA if tf.test.is_built_with_cuda() else (DEFAULT_PLACE,)


def is_on_cpu(place: Place) -> bool:
    """Whether a place is a CPU, with or without a simulated fault."""
    return place.device.startswith("CPU")
