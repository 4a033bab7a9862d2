"""Places that multiply in a narrower format than they say: the inputs of a product are rounded.

Only float32 tensors are touched.  Products and sums are those of the CPU's float32 kernel.
"""

from __future__ import annotations

import numpy as np

from diag.engine.faults.recompute import recompute
from diag.engine.faults.simulation import Call, FaultFunction, Simulation
from diag.numerics.formats import BFLOAT16, TF32, Format, Rounding, float32_with_precision, round_to

MATMULS = frozenset({"MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum"})
CONVOLUTIONS = frozenset(
    {
        "Conv", "Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter",
        "Conv3D", "Conv3DBackpropInputV2", "Conv3DBackpropFilterV2",
        "DepthwiseConv2dNative", "DepthwiseConv2dNativeBackpropInput", "DepthwiseConv2dNativeBackpropFilter",
    }
)  # fmt: skip


def tf32() -> Simulation:
    """TensorFlow's default on NVIDIA GPUs since Ampere: 10 mantissa bits, to nearest even."""
    return Simulation("tf32", _rounding(TF32, "nearest-even"), op_types=MATMULS | CONVOLUTIONS)


def tf32_truncate() -> Simulation:
    """TF32 as some kernels of one training step read it: the low 13 bits are cut off."""
    return Simulation("tf32-truncate", _rounding(TF32, "toward-zero"), op_types=MATMULS | CONVOLUTIONS)


def bf16_inputs() -> Simulation:
    """float32 products of numbers rounded to bfloat16."""
    return Simulation("bf16-inputs", _rounding(BFLOAT16, "nearest-even"), op_types=MATMULS | CONVOLUTIONS)


def gemm_11bit() -> Simulation:
    """Matrix products, not matrix times vector, of operands cut off to 11 significand bits."""
    truncated = _rounding(float32_with_precision(11), "toward-zero")

    def fault(call: Call) -> list[np.ndarray] | None:
        return truncated(call) if min(call.outputs[0].shape[-2:]) >= 2 else None

    return Simulation("gemm-11bit", fault, op_types=MATMULS - {"Einsum"})


def _rounding(format: Format, mode: Rounding) -> FaultFunction:
    def fault(call: Call) -> list[np.ndarray] | None:
        if call.outputs[0].dtype != np.float32:
            return None
        inputs = [round_to(x, format, mode) if x.dtype == np.float32 else x for x in call.inputs]
        return recompute(call, inputs)

    return fault
