"""The truth of layer units: float64 on the CPU, from the inputs that the other lanes had."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.graphs.editing import Body, body_of_graph, graph_of_body, make_node, rewired
from diag.engine.graphs.executable import Executable, ends_of
from diag.engine.graphs.graph import ASSIGN_OPS, Port, parse_input, with_index
from diag.engine.graphs.locations import PHASES
from diag.engine.graphs.reachability import reachable
from diag.engine.graphs.runtime_functions import has_effect
from diag.engine.graphs.tf_runtime import FLOATS, format_of_dtype, from_pairs, in_precision_of, to_numpy
from diag.engine.graphs.variables import read, write
from diag.engine.lanes.compiled import CompiledRun, build
from diag.engine.lanes.step_results import UnitInputs
from diag.engine.step.program import VariableSpec
from diag.engine.step.units import Unit
from diag.engine.truth.float64_graph import Promotion
from diag.engine.truth.format_range import Way, with_ranges
from diag.engine.truth.noise import Noise
from diag.engine.truth.op_truth import CPU, FEW_PERTURBED, LARGE, NUM_PERTURBED, Arrays, spread_of, widened
from diag.engine.truth.rounding_nodes import OperandRounding
from diag.numerics.bounds import RoundingSpread

_Changed = tuple[Any, dict[Port, Port]]  # a graph in float64, and which port is to be read in place of which
_Change = Callable[[Any, Promotion], _Changed]
# What takes one of several numbers -> what it never takes.
SELECTING = {
    "Max": -math.inf, "Maximum": -math.inf, "MaxPool": -math.inf, "SegmentMax": -math.inf,
    "UnsortedSegmentMax": -math.inf,
    "Min": math.inf, "Minimum": math.inf, "SegmentMin": math.inf, "UnsortedSegmentMin": math.inf,
}  # fmt: skip
TIPPED = 16  # samples of a spread that operands near a tie are a part of


class UnitTruth:
    """One layer unit in float64.

    The backward pass of a layer reads what its forward pass handed on.  Whether an element was
    above zero is decided there, and a lane that rounded to the other side is right to follow its
    own decision; so truth of the backward pass is taken given the lane's own forward outputs.  So is truth of
    the optimizer given the lane's own gradients: whether loss scaling applies them hangs on an overflow of the
    lane's format, which float64 does not have.
    """

    def __init__(
        self, unit: Unit, variables: Sequence[VariableSpec | tf.Variable],
        shadows: dict[int, tf.Variable] | None = None, own_decisions: bool = False,
    ) -> None:  # fmt: skip
        """Build the unit in float64.

        variables: of the whole step; only their shapes and dtypes are looked at.  shadows: their float64 twins that
        there are already, by index; those that are missing are added.  own_decisions: comparisons are made in the
        unit's own formats.
        """
        self.unit, self.own_decisions = unit, own_decisions
        shadows = {} if shadows is None else shadows
        self.variables: dict[int, tf.Variable] = {}
        for index in dict.fromkeys(unit.executable.captures.values()):
            if index not in shadows:
                shadows[index] = _shadow(variables[index])
            self.variables[index] = shadows[index]
        self._exact = self._build()
        self._noisy: dict[Noise, _Built] = {}
        self._in_range: dict[Way, _Built] = {}

    @property
    def given(self) -> Sequence[int]:
        """Which outputs are not handed on but given, as a lane has them."""
        return self._exact.given

    def _build(
        self,
        noise: Noise | None = None,
        operands: OperandRounding | None = None,
        wanted: Sequence[int] | None = None,
        change: _Change | None = None,
    ) -> _Built:
        """wanted: which outputs and written variables to compute, by their number in `outputs`; all by default.

        change: made to the graph in float64.
        """
        unit, executable = self.unit, self.unit.executable
        wanted = range(len(unit.outputs) + len(unit.writes)) if wanted is None else wanted
        ports = [unit.outputs[index] for index in wanted if index < len(unit.outputs)]
        writes = [unit.writes[index - len(unit.outputs)] for index in wanted if index >= len(unit.outputs)]
        promotion = Promotion(executable.graph, executable.functions, noise, operands, own_decisions=self.own_decisions)
        graph_def = promotion.apply(self._leading_to(ports, writes))
        given = self._feed_given_outputs(promotion, graph_def)
        graph_def, moved = change(graph_def, promotion) if change else (graph_def, {})
        wide = map(promotion.wide_port, ports)
        outputs = tuple(moved.get(port, port) for port in wide)
        feeds = (*executable.feeds, *(f"lockstep_given/{index}" for index in range(len(given))))
        constants = {k: widened(x) if x.dtype in FLOATS else x for k, x in executable.constants.items()}
        graph = ends_of(graph_def, feeds, outputs)
        promoted = Executable(graph, {}, graph_def, feeds, executable.captures, constants, outputs)
        run = build(promoted, CPU, None, self.variables, is_optimized=False)
        assert isinstance(run, CompiledRun)  # the CPU's execution is graph
        return _Built(run, given, wanted, writes, promotion.alive)

    @staticmethod
    def _bypassed(graph_def: Any, promotion: Promotion, bypass: tuple[Port, Port]) -> _Changed:
        old, new = map(promotion.wide_port, bypass)
        body = rewired(body_of_graph(graph_def), {str(old): str(new)}, keep=lambda _: False)
        return graph_of_body(body, graph_def.library.function, graph_def.versions), {old: new}

    @staticmethod
    def _passing_over_nan(graph_def: Any, _: Promotion) -> _Changed:
        """What selects among numbers gets infinity, which it never selects, for NaN."""
        body = body_of_graph(graph_def)
        for node in list(body.nodes):
            if node.op not in SELECTING or node.attr["T"].type != tf.float64.as_datatype_enum:
                continue
            for position in range(2 if node.op in ("Maximum", "Minimum") else 1):
                base, source = f"lockstep_nan/{node.name}/{position}", node.input[position]
                never = tf.make_tensor_proto(SELECTING[node.op], tf.float64)
                body.nodes += [
                    make_node(f"{base}/is_nan", "IsNan", [source], T=tf.float64),
                    make_node(
                        f"{base}/never", "Const", [], dtype=tf.float64, value=tf.compat.v1.AttrValue(tensor=never)
                    ),
                    make_node(base, "SelectV2", [f"{base}/is_nan:0", f"{base}/never:0", source], T=tf.float64),
                ]
                node.input[position] = f"{base}:0"
        return graph_of_body(body, graph_def.library.function, graph_def.versions), {}

    def _leading_to(self, ports: Sequence[Port], writes: Sequence[int]) -> Any:
        """The graph with what these outputs and the writes of these variables need; writes of others are left out."""
        executable, graph_def = self.unit.executable, self.unit.executable.graph_def
        inputs = {node.name: [parse_input(text)[0] for text in node.input] for node in graph_def.node}
        others = {name for name, index in executable.captures.items() if index not in writes}
        effects = [
            node.name for node in graph_def.node
            if has_effect(node.op) and not (node.op in ASSIGN_OPS and inputs[node.name][0] in others)
        ]  # fmt: skip
        start = [*executable.feeds, *(port.node for port in ports), *effects]
        needed = reachable(start, lambda name: inputs.get(name, ()))
        nodes = [node for node in graph_def.node if node.name in needed]
        return graph_of_body(Body(nodes, [], []), graph_def.library.function, graph_def.versions)

    def _feed_given_outputs(self, promotion: Promotion, graph_def: Any) -> list[int]:
        """Let nodes of a later phase read given outputs of an earlier one; returns which outputs are given."""
        graph = self.unit.executable.graph
        readers: dict[str, list[Any]] = defaultdict(list)
        for node in graph_def.node:
            for text in node.input if node.name in graph.by_name else ():
                readers[with_index(text)].append(node)
        given: list[int] = []
        for index, port in enumerate(self.unit.outputs):
            if graph.dtype(port) not in FLOATS:
                continue
            source, phase = str(promotion.wide_port(port)), PHASES.index(self.unit.phase(port))
            later = [n for n in readers[source] if PHASES.index(graph.by_name[n.name].location.phase) > phase]
            if not later:
                continue
            name = f"lockstep_given/{len(given)}"
            for node in later:
                inputs = [f"{name}:0" if with_index(text) == source else text for text in node.input]
                del node.input[:]
                node.input.extend(inputs)
            placeholder = make_node(name, "Placeholder", [], dtype=in_precision_of(tf.float64, graph.dtype(port)))
            placeholder.attr["shape"].shape.CopyFrom(graph.shape(port).as_proto())
            graph_def.node.append(placeholder)
            given.append(index)
        return given

    def outputs(self, inputs: UnitInputs) -> Arrays:
        """Float64 outputs and then written values, given what a lane's forward pass handed on."""
        return self._evaluate(self._exact, inputs)

    def outputs_rounded(self, rounding: OperandRounding, inputs: UnitInputs) -> Arrays:
        """As `outputs`, with the operands of its products rounded first."""
        return self._evaluate(self._build(operands=rounding), inputs)

    def spread_rounded(self, rounding: OperandRounding, inputs: UnitInputs, output: int, truth: Any) -> RoundingSpread:
        """How far rounding moves one output of `outputs_rounded`, which is `truth`.

        Noise far below the narrow format tips an operand here and there to its next number, which few runs do not show.
        """
        noisy = self._build(noise=Noise.ROUNDING, operands=rounding, wanted=[output])
        return spread_of(lambda: self._evaluate(noisy, inputs), TIPPED, [truth])[0]

    def outputs_with(self, port: Port, source: Port, inputs: UnitInputs) -> Arrays:
        """As `outputs`, with the readers of one port reading another in its place."""
        return self._evaluate(self._build(change=partial(self._bypassed, bypass=(port, source))), inputs)

    def outputs_passing_over_nan(self, inputs: UnitInputs) -> Arrays:
        """As `outputs`, where every maximum and minimum is that of the numbers, whatever is NaN among them."""
        return self._evaluate(self._build(change=self._passing_over_nan), inputs)

    def outputs_in_range(self, inputs: UnitInputs, way: Way) -> Arrays:
        """As `outputs`, with the ranges of the formats (diag/engine/truth/format_range.py)."""
        if way not in self._in_range:
            self._in_range[way] = self._build(change=partial(with_ranges, way=way))
        return self._evaluate(self._in_range[way], inputs)

    def spreads_of_inputs(self, inputs: UnitInputs, truth: Arrays) -> list[RoundingSpread]:
        """How far one rounding of every input, and of every weight that the unit does not write, moves each output.

        A part of `spreads` that needs no graph of its own.
        """
        generator = np.random.default_rng(0)
        move = partial(_moved, generator=generator)
        return spread_of(lambda: self._evaluate(self._exact, inputs, move), FEW_PERTURBED, truth)

    def spreads(
        self, inputs: UnitInputs, truth: Arrays, wanted: Collection[int] | None = None, noise: Noise = Noise.ROUNDING
    ) -> dict[int, RoundingSpread]:
        """How far the noise of every input, weight and op result that has it moves each output, or the wanted ones."""
        wanted = set(range(len(truth)) if wanted is None else wanted)
        noisy = self._noisy.get(noise)
        if noisy is None or not wanted.issubset(noisy.wanted):
            indices = sorted(wanted.union(() if noisy is None else noisy.wanted))
            noisy = self._noisy[noise] = self._build(noise=noise, wanted=indices)
        noisy.run.draw_again()  # else a spread would hang on how many were measured before
        positions = {index: position for position, index in enumerate(noisy.wanted) if index in wanted}
        expected = [truth[index] for index in positions]
        num_samples = FEW_PERTURBED if any(x.size > LARGE for x in expected) else NUM_PERTURBED

        def sample() -> Arrays:
            outputs = self._evaluate(noisy, inputs)
            return [outputs[position] for position in positions.values()]

        return dict(zip(positions, spread_of(sample, num_samples, expected), strict=True))

    def _evaluate(self, built: _Built, inputs: UnitInputs, given_as: Callable[[Any], tf.Tensor] = widened) -> Arrays:
        """given_as: what the unit gets for its inputs and for weights that it does not write."""
        for index, variable in self.variables.items():
            write(variable, (widened if index in self.unit.writes else given_as)(inputs.state[index]))
        given = [widened(inputs.outputs[index]) for index in built.given]
        outputs = built.run(*map(given_as, inputs.boundary), *given)
        return [to_numpy(value) for value in (*outputs, *(read(self.variables[index]) for index in built.writes))]


@dataclass(frozen=True)
class _Built:
    """What computes some outputs of a unit in float64.

    run: of the boundary and the given outputs.  given: which outputs it does not hand on.  wanted: which
    outputs and written variables it computes.  writes: the variables among them.  alive: what it calls.
    """

    run: CompiledRun
    given: Sequence[int]
    wanted: Sequence[int]
    writes: Sequence[int]
    alive: Sequence[object]


def _moved(tensor: Any, generator: np.random.Generator) -> tf.Tensor:
    """A tensor in float64 with every element moved at random by up to one rounding of its own format."""
    wide = widened(tensor)
    if tensor.dtype not in FLOATS:
        return wide
    unit_roundoff, values = format_of_dtype(tensor.dtype).unit_roundoff, to_numpy(wide)
    return from_pairs(values * (1.0 + unit_roundoff * generator.uniform(-1.0, 1.0, values.shape)), wide.dtype)


def _shadow(variable: VariableSpec | tf.Variable) -> tf.Variable:
    dtype = tf.dtypes.as_dtype(variable.dtype)
    with tf.device("CPU:0"):
        return tf.Variable(tf.zeros(variable.shape, in_precision_of(tf.float64, dtype)), trainable=False)
