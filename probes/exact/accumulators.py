"""Sums that leave the integers of a narrow dtype and come back: exact in float32, wrong in a narrow accumulator."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import tensorflow as tf

from probes.exact.case import Case, case
from probes.exact.judging import FAMILY, noted_sweep, sweep
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import Measurement
from probes.frame.plan import Choice, Probe

NUM_UP, NUM_DOWN = {"float16": 700, "bfloat16": 100}, {"float16": 300, "bfloat16": 60}
NOT_PROMISED = "summed in the narrow dtype, or parts of it; TensorFlow promises no more for this op"
NOT_PUBLISHED = "summed in the narrow dtype, or parts of it; who wrote this device's plug-in publishes no rule"


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in NUM_UP:
        name = f"sums beyond {dtype}'s integers"
        for op, made in promised(dtype).items():
            yield _promised_probe(op, dtype, name, made)
        for op, made in others(dtype).items():
            yield noted_sweep(op, dtype, name, [made], NOT_PROMISED)


def _promised_probe(op: str, dtype: str, name: str, made: Case) -> Probe:
    """A failure where it is published that MatMul and Conv2D of narrow numbers are summed in float32, else a note.

    On CUDA and ROCm TensorFlow does so unless TF_FP16_MATMUL_USE_FP32_COMPUTE or TF_FP16_CONV_USE_FP32_COMPUTE say
    otherwise (on by default: MatmulDoFP32ComputationFP16Input in core/util/matmul_autotune.cc,
    ConvDoFP32ComputationFP16Input in stream_executor's cuda_dnn.cc); on the CPU oneDNN does (developer guide, Data
    Types: accumulators are s32 for integers and f32 for floating point).
    """

    def run(device: DeviceUnderTest) -> Iterator[Measurement]:
        is_published = device.place.device.startswith("CPU") or tf.test.is_built_with_gpu_support()
        chosen = sweep if is_published else partial(noted_sweep, because=NOT_PUBLISHED)
        yield from chosen(op, dtype, name, [made]).run(device)

    return Probe(FAMILY, op, dtype, name, run)


def factors(dtype: str) -> tuple[str, str]:
    """Texts of two rows whose product runs up in steps of 4 from 1, beyond the exact integers, and down again.

    Every partial sum of the first k terms is odd, and an odd number is lost as soon as the spacing is 2.
    """
    up, down = NUM_UP[dtype], NUM_DOWN[dtype]
    return f"np.array([1] + [2] * {up + down - 1})", f"np.array([1] + [2] * {up - 1} + [-2] * {down})"


def _sum(dtype: str) -> int:
    return 1 + 4 * (NUM_UP[dtype] - 1) - 4 * NUM_DOWN[dtype]


def promised(dtype: str) -> dict[str, Case]:
    a, b = factors(dtype)
    label = f"K = {NUM_UP[dtype] + NUM_DOWN[dtype]}"
    return {
        "MatMul": case(label, "tf.linalg.matmul(a, b)",
                       {"a": f"np.tile({a}, (17, 1))", "b": f"np.tile({b}, (9, 1)).T"},
                       lambda a, b: np.full((17, 9), _sum(dtype)), axes=("row", "column")),
        "BatchMatMulV2": case(label, "tf.linalg.matmul(a, b)",
                              {"a": f"np.tile({a}, (3, 5, 1))", "b": f"np.tile({b}, (3, 2, 1)).swapaxes(1, 2)"},
                              lambda a, b: np.full((3, 5, 2), _sum(dtype))),
        "Conv2D": case(label, 'tf.nn.conv2d(x, w, 1, "VALID")',
                       {"x": f"np.tile({a}, (1, 5, 4, 1))", "w": f"np.tile({b}, (3, 1, 1, 1)).transpose(1, 2, 3, 0)"},
                       lambda x, w: np.full((1, 5, 4, 3), _sum(dtype))),
    }  # fmt: skip


def others(dtype: str) -> dict[str, Case]:
    a, b = factors(dtype)
    count = NUM_UP[dtype] + NUM_DOWN[dtype]
    label, strides = f"{count} terms", 'strides=[1, 1, 1, 1], padding="VALID"'
    return {
        "Conv2DBackpropInput": case(
            label, f"tf.raw_ops.Conv2DBackpropInput(input_sizes=[1, 3, 2, 1], filter=w, out_backprop=g, {strides})",
            {"g": f"np.tile({a}, (1, 3, 2, 1))", "w": f"{b}.reshape(1, 1, 1, -1)"},
            lambda g, w: np.full((1, 3, 2, 1), _sum(dtype))),
        "Conv2DBackpropFilter": case(
            label, f"tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=[1, 1, 1, 1], out_backprop=g, {strides})",
            {"x": f"{a}.reshape(1, 1, -1, 1)", "g": f"{b}.reshape(1, 1, -1, 1)"},
            lambda x, g: np.full((1, 1, 1, 1), _sum(dtype))),
        "Sum": case(label, "tf.reduce_sum(x, 1)", {"x": f"np.tile({a} * {b}, (3, 1))"},
                    lambda x: np.full(3, _sum(dtype))),
        "BiasAddGrad": case(label, "tf.raw_ops.BiasAddGrad(out_backprop=g)", {"g": f"np.tile({a} * {b}, (3, 1)).T"},
                            lambda g: np.full(3, _sum(dtype))),
        "Mean": case(label, f"tf.reduce_mean(x, 1) * {count}", {"x": f"np.tile({a} * {b}, (3, 1))"},
                     lambda x: np.full(3, _sum(dtype)), ulps=2),
    }  # fmt: skip
