"""Random numbers that are none, and a generator that is another but valid one, through the public interface only."""

from __future__ import annotations

import zlib

import numpy as np


def clipped(call):
    """Normal deviates, none of them beyond 1.2."""
    return [np.clip(call.outputs[0], -1.2, 1.2)] if "RandomNormal" in call.op_type else None


def nine_tenths(call):
    """Of uniform numbers that end at 0.9."""
    return [call.outputs[0] * np.float32(0.9)] if "RandomUniform" in call.op_type else None


def second_half_again(call):
    """The second half of each draw is its first."""
    if "RandomUniform" not in call.op_type:
        return None
    flat = call.outputs[0].copy().reshape(-1)
    half = flat.size // 2
    flat[half : 2 * half] = flat[:half]
    return [flat.reshape(call.outputs[0].shape)]


def one_mask(call):
    """All that a step draws is what it draws first."""
    if "RandomUniform" not in call.op_type:
        return None
    index, drawn = call.memory.setdefault(call.step, (call.index, call.outputs[0].copy()))
    return None if index == call.index else [np.resize(drawn, call.outputs[0].shape)]


def opposite_mask(call):
    """What the first layer of a step drops, others keep."""
    if "RandomUniform" not in call.op_type:
        return None
    index, drawn = call.memory.setdefault(call.step, (call.index, call.outputs[0].copy()))
    return None if index == call.index else [np.float32(1 - 2.0**-24) - np.resize(drawn, call.outputs[0].shape)]


def every_third_step(call):
    """From step 3 on, what was drawn three steps before."""
    if not call.op_type.startswith(("RandomUniform", "StatelessRandomUniform", "StatelessRandomNormal")):
        return None
    drawn = call.memory.setdefault((call.index, call.step % 3), call.outputs[0].copy())
    return [drawn] if call.step >= 3 else None


def one_in_eight_is_zero(call):
    """A generator one of whose eight threads does not run."""
    if "Random" not in call.op_type or "GetKeyCounter" in call.op_type or "GetAlg" in call.op_type:
        return None
    wrong = call.outputs[0].copy()
    wrong.reshape(-1)[::8] = 0
    return [wrong]


def numpys(call):
    """A valid generator, and another."""
    generator = np.random.Generator(np.random.Philox(zlib.crc32(f"{call.step} {call.index}".encode())))
    shape, dtype = call.outputs[0].shape, call.outputs[0].dtype
    if "RandomNormal" in call.op_type:
        return [generator.standard_normal(shape).astype(dtype)]
    if "RandomUniform" in call.op_type and dtype == np.float32:
        return [(generator.integers(0, 1 << 23, shape) / (1 << 23)).astype(dtype)]
    return None
