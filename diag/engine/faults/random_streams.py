"""Places whose random generator draws what it should not."""

from __future__ import annotations

import numpy as np

from diag.engine.faults.recompute import input_position, recompute
from diag.engine.faults.simulation import Call, Simulation

_OTHER = 0x5EED  # any number but 0

# Ops that draw samples; not those that make a key for them, such as StatelessRandomGetKeyCounter.
DRAWING_OPS = frozenset(
    {
        "RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle",
        "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2", "Multinomial",
        "StatelessRandomUniform", "StatelessRandomUniformV2", "StatelessRandomUniformInt",
        "StatelessRandomUniformIntV2", "StatelessRandomUniformFullInt", "StatelessRandomUniformFullIntV2",
        "StatelessRandomNormal", "StatelessRandomNormalV2", "StatelessTruncatedNormal",
        "StatelessTruncatedNormalV2", "StatelessParameterizedTruncatedNormal", "StatelessMultinomial",
        "StatelessRandomBinomial", "StatelessRandomGammaV2", "StatelessRandomGammaV3",
        "StatelessRandomPoisson", "StatelessShuffle",
    }
)  # fmt: skip


def rng_frozen() -> Simulation:
    """The generator never advances: each random op repeats what it drew in the first step."""
    return Simulation("rng-frozen", _frozen, op_types=DRAWING_OPS)


def _frozen(call: Call) -> list[np.ndarray] | None:
    """What the op drew first, cut to size where the batch has become smaller.

    What it drew is kept by the place, so a place that starts at a later step freezes there.
    """
    if call.index not in call.memory:
        call.memory[call.index] = call.step, [np.array(output) for output in call.outputs]
    step, drawn = call.memory[call.index]
    if call.step == step:
        return None
    return [_cut(first, now.shape) for first, now in zip(drawn, call.outputs, strict=True)]


def rng_other_stream() -> Simulation:
    """The generator draws another valid stream: what it would have drawn with another key or seed."""
    return Simulation("rng-other-stream", _other, op_types=DRAWING_OPS)


def _other(call: Call) -> list[np.ndarray]:
    position = input_position(call.op_type, "key", "seed")
    if position is None:  # a stateful generator, seeded by its attributes
        return recompute(call, call.inputs, seed=call.attrs["seed"] + _OTHER, seed2=call.attrs["seed2"])
    inputs = list(call.inputs)
    inputs[position] = inputs[position] ^ inputs[position].dtype.type(_OTHER)
    return recompute(call, inputs)


def _cut(drawn: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The leading part of each axis; where an axis has grown, the stream from its beginning, repeated."""
    if drawn.ndim == len(shape) and all(new <= old for new, old in zip(shape, drawn.shape, strict=True)):
        return drawn[tuple(slice(size) for size in shape)]
    return np.resize(drawn, shape)
