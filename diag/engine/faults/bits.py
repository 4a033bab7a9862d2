"""A place that flips one bit of one element, once."""

from __future__ import annotations

import numpy as np

from diag.engine.faults.simulation import Call, Simulation
from diag.engine.graphs.graph import ASSIGN_OPS, Node, Port
from diag.engine.graphs.reachability import reachable
from diag.engine.graphs.tf_runtime import REALS
from diag.engine.step.program import Program
from diag.errors import UserError
from diag.numerics.formats import format_of
from diag.numerics.op_classes import is_random

# Ops that hand on a tensor as it is and compute none of its elements.
_HAND_ON = {
    "ReadVariableOp", "Identity", "IdentityN", "StopGradient", "PreventGradient", "EnsureShape",
    "Reshape", "Squeeze", "ExpandDims",
}  # fmt: skip
_STATEFUL_CALLS = {"If", "While", "StatefulPartitionedCall"}
_NUM_STEPS = 3  # the step is one of the first three, so that a short run meets it
_BIT_WORTH = 10  # 2^-10 of the element's leading bit


def one_bit() -> Simulation:
    """In step `seed % 3` one op, drawn by the seed, has a mantissa bit of one element wrong."""
    fault = OneBit()
    return Simulation("one-bit", fault, bind=fault.bind)


class OneBit:
    """The fault, told by `bind` where to strike.

    The op is drawn uniformly from those of `candidates`.  The element is the first normal number
    at or after a position drawn by the seed, so that every call of the op in the step, compiled,
    eager or in a unit by itself, has the same bit of the same element flipped.  The bit is worth
    2^-10 of the element's leading bit: 2^-7, the lowest there is, in bfloat16.
    """

    def __init__(self) -> None:
        self.step: int | None = None
        self.index: int | None = None
        self.output = 0
        self.fraction = 0.0

    def bind(self, program: Program, seed: int) -> tuple[str]:
        """Choose step, op and element; returns the one type of op to look at.

        Raises UserError where no op computes two floating numbers.
        """
        found = candidates(program)
        if not found:
            raise UserError("sim:one-bit: expected an op that computes two or more floating numbers, found none")
        random = np.random.default_rng(seed)
        port = found[random.integers(len(found))]
        node = program.graph.by_name[port.node]
        self.step, self.index, self.output = seed % _NUM_STEPS, node.location.index, port.index
        self.fraction = random.random()
        return (node.op,)

    def __call__(self, call: Call) -> list[np.ndarray] | None:
        if self.index is None:
            raise RuntimeError("one-bit was not bound to a program")
        if (call.step, call.index) != (self.step, self.index):
            return None
        outputs = list(call.outputs)
        outputs[self.output] = flipped(outputs[self.output], self.fraction)
        return outputs


def candidates(program: Program) -> list[Port]:
    """Where the bit may flip: an output of each op that computes at least two floating numbers.

    Ops in the bodies of loops run several times a step, and those in branches perhaps not at all:
    the bit would not flip exactly once.  Random ops draw, and what nobody reads is not computed.
    """
    read = {port for node in program.graph for port in node.inputs} | set(program.results)
    alive = alive_in(program)
    first: list[Port] = []
    for node in program.graph:
        if node.location.index is None or node.op in _HAND_ON or is_random(node.op) or node.name not in alive:
            continue
        ports = [Port(node.name, i) for i in range(len(node.dtypes)) if _is_wide_enough(node, i)]
        first.extend([port for port in ports if port in read][:1])
    return first


def flipped(array: np.ndarray, fraction: float) -> np.ndarray:
    """A copy with one bit flipped, in the first normal number from `fraction` of the way through."""
    result, format = np.array(array, order="C"), format_of(array.dtype)
    magnitude = np.abs(result.astype(np.float64).reshape(-1))
    normal = np.flatnonzero((magnitude >= format.smallest_normal) & (magnitude <= format.largest))
    if normal.size:
        position = normal[np.searchsorted(normal, int(fraction * magnitude.size)) % normal.size]
        bits = result.reshape(-1).view(f"u{result.dtype.itemsize}")
        bits[position] ^= bits.dtype.type(1 << max(format.precision - 1 - _BIT_WORTH, 0))
    return result


def _is_wide_enough(node: Node, output: int) -> bool:
    num_elements = node.shapes[output].num_elements()
    return node.dtypes[output] in REALS and num_elements is not None and num_elements >= 2


def alive_in(program: Program) -> set[str]:
    """The nodes that the step's results or something written depend on; TensorFlow prunes the others."""
    graph = program.graph
    written = [node.name for node in graph if node.op in ASSIGN_OPS | _STATEFUL_CALLS or _writes(node)]
    start = [*(port.node for port in program.results), *written]
    return set(reachable(start, lambda name: [port.node for port in graph.by_name[name].inputs]))


def _writes(node: Node) -> bool:
    """An op such as ResourceScatterAdd, which has a handle and no output."""
    return not node.dtypes and node.op.startswith("Resource")
