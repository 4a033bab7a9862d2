"""The microscope: one step, every op, in both lanes side by side.

Each op is executed by the reference on its own values, by the candidate on the reference's
inputs (what does this op introduce?), a second time if that differs (is it the same again?) and,
where the lanes differ by then, by the candidate on its own values (how large has the difference
grown?).  Equal values are kept once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from diag.causes.wrong_output import EarlierExecution
from diag.engine.graphs.graph import ASSIGN_OPS, OPAQUE, WHILE_OPS, Node
from diag.engine.graphs.interpreter import Interpreter
from diag.engine.graphs.reachability import called_functions
from diag.engine.graphs.tf_runtime import FLOATS, KnownAttributes, has_kernel, to_numpy
from diag.engine.graphs.variables import read, write
from diag.engine.lanes.eager import EagerPlace, VariableRef
from diag.engine.lanes.lane import Lane
from diag.engine.lockstep.history import with_nothing_remembered
from diag.engine.step.program import Program
from diag.engine.truth.decisions import flipped
from diag.engine.truth.naming import where_of_op
from diag.engine.truth.op_judge import NONDETERMINISM, OpEvidence, OpJudge, OpJudgement, output_arrays
from diag.numerics.bits import same_bits
from diag.numerics.figures import PairStatistics
from diag.numerics.op_classes import is_random
from diag.numerics.statistics import compare
from diag.verdict.findings import SHARED_ERROR, Observation, Relation, Verdict

# What hands on tensors of a list, which a loop keeps its inputs and outputs in: copies, judged by the reference's.
LIST_READERS = frozenset({"TensorListGetItem", "TensorListStack"})
# What stands for the output of a branch that was not taken: memory that nobody wrote, or zeros, and nobody reads.
UNWRITTEN = frozenset({"FakeParam"})


@dataclass(frozen=True)
class Pair:
    """A value in both lanes; `own` is the candidate's, None where its bits are the reference's.

    difference: of the two, norm-wise and relative.
    """

    reference: Any
    own: Any = None
    difference: float = 0.0

    @property
    def candidate(self) -> Any:
        """The value as the candidate has it."""
        return self.reference if self.own is None else self.own


@dataclass(frozen=True)
class OpRecord:
    """What the microscope hands to whoever asks why: the evidence behind an observation.

    repeated, isolated: the output of a second run at the candidate, and of one with nothing remembered.
    earlier: the same op at earlier steps.
    """

    observation: Observation
    evidence: OpEvidence
    output: int
    repeated: Any = None
    isolated: Any = None
    earlier: Callable[[], Sequence[EarlierExecution]] = tuple


class Microscope:
    """Runs one step of a program in two lanes; the lanes' variables end after the step."""

    def __init__(
        self,
        program: Program,
        lanes: tuple[Lane, Lane],
        step: int,
        truth_everywhere: bool = True,
        share_random: bool = False,
        explain: Callable[[OpRecord], Observation] | None = None,
    ) -> None:
        self.program, self.lanes = program, lanes
        reference, candidate = lanes
        attributes = KnownAttributes()
        self.reference = EagerPlace(reference.place.eagerly(), reference.simulation, attributes)
        self.candidate = EagerPlace(candidate.place.eagerly(), candidate.simulation, attributes)
        self._carrier = EagerPlace(reference.place.eagerly(), None, attributes)
        self.step = step
        self.truth_everywhere = truth_everywhere
        self.share_random = share_random
        self.explain = explain
        self.judge = OpJudge(reference.place, candidate.place, attributes)
        self.observations: dict[tuple[int, int], Observation] = {}
        self._executed: Counter[int] = Counter()  # op -> how often, so far: more than once in a loop
        self._first_wrong: dict[tuple[int, int], int] = {}  # op and output -> which execution, from 0
        self.fallbacks: set[str] = set()
        self._trial: tf.Variable | None = None

    def run(self, batch: Sequence[Any]) -> list[Observation]:
        """Execute the step; observations in op order, one an op output (the worst of a loop's rounds)."""
        for lane in self.lanes:
            lane.enter_step(self.step)
        feeds: dict[str, Any] = {
            name: Pair(value) for name, value in zip(self.program.batch_inputs, batch, strict=True)
        }
        feeds |= {name: VariableRef(index) for name, index in self.program.captures.items()}
        feeds |= {name: Pair(value) for name, value in self.program.constants.items()}
        Interpreter[Any](self.program.functions, self).run(self.program.graph, feeds, [])
        return [self._with_iteration(key) for key in sorted(self.observations)]

    # -- the walker's handler ------------------------------------------------------------------

    def constant(self, node: Node) -> Pair:
        return Pair(self.reference.constant(node))

    def truth(self, value: Pair) -> bool:
        return bool(value.reference)

    def compute(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        references = [x for x in inputs if isinstance(x, VariableRef)]
        if len(references) == len(inputs) == 1 and node.dtypes == (tf.resource,):
            return list(inputs)
        if references and (node.op in ASSIGN_OPS or not node.dtypes):
            self._write(node, inputs)
            return []
        if not node.dtypes:
            return []
        is_seen = not self._is_opaque(node, inputs) or (node.op in LIST_READERS and self._lists_travel)
        if node.location.index is None or not is_seen or node.op in UNWRITTEN:
            return self._plumb(node, inputs)
        return self._observe(node, inputs)

    @cached_property
    def _lists_travel(self) -> bool:
        """Whether the candidate can read the lists of the loops, which lie where the reference is."""
        return self.candidate.reads_lists_of(self.lanes[0].place.device)

    @staticmethod
    def _is_opaque(node: Node, inputs: Sequence[Any]) -> bool:
        values = [x.reference for x in inputs if isinstance(x, Pair)]
        return any(dtype in OPAQUE for dtype in node.dtypes) or any(value.dtype in OPAQUE for value in values)

    def _plumb(self, node: Node, inputs: Sequence[Any]) -> list[Any]:
        """Ops that carry values (lists of a loop, returns): executed for each lane, never judged."""
        reference = [x.reference if isinstance(x, Pair) else x for x in inputs]
        outputs = self.reference.run(node, reference, self.lanes[0].variables)
        if all(x.own is None for x in inputs if isinstance(x, Pair)):
            return [Pair(output) for output in outputs]
        own = [x.candidate if isinstance(x, Pair) else x for x in inputs]
        carried = self._carrier.run(node, own, self.lanes[0].variables)
        difference = max(x.difference for x in inputs if isinstance(x, Pair))
        return [Pair(a, b, difference) for a, b in zip(outputs, carried, strict=True)]

    def _observe(self, node: Node, inputs: Sequence[Any]) -> list[Pair]:
        variables = [x for x in inputs if isinstance(x, VariableRef)]
        reference_inputs = [x.reference if isinstance(x, Pair) else x for x in inputs]
        outputs = self.reference.run(node, reference_inputs, self.lanes[0].variables)
        self._note_fallback(node)
        at_candidate = self._reference_variables_at_candidate(variables)
        local = self.candidate.run(node, reference_inputs, at_candidate)
        own = local
        candidate_inputs = [x.candidate if isinstance(x, Pair) else x for x in inputs]
        if variables or any(x.own is not None for x in inputs if isinstance(x, Pair)):
            own = self.candidate.run(node, candidate_inputs, self.lanes[1].variables)
        if is_random(node.op):
            own = outputs if self.share_random else own
        evidence = OpEvidence(
            node,
            [self._value(x) for x in inputs],
            output_arrays(node, local),
            output_arrays(node, outputs),
            run_again=lambda place: output_arrays(node, place.run(node, reference_inputs, at_candidate)),
            candidate_inputs=candidate_inputs,
            inherited=max((x.difference for x in inputs if isinstance(x, Pair)), default=0.0),
        )
        propagated = self._record(evidence, None if own is local else output_arrays(node, own))
        return [
            Pair(a) if p.num_unequal == 0 and p.num_zero_sign == 0 else Pair(a, b, p.normwise_relative_error)
            for a, b, p in zip(outputs, own, propagated, strict=True)
        ]

    def _value(self, x: Any) -> Any:
        return read(self.lanes[0].variables[x.index]) if isinstance(x, VariableRef) else x.reference

    def _reference_variables_at_candidate(self, references: Sequence[VariableRef]) -> Any:
        """The reference's variables, copied to the candidate's device where that is another."""
        if not references or self.lanes[0].place.device == self.lanes[1].place.device:
            return self.lanes[0].variables
        with tf.device(self.lanes[1].place.device):
            return {x.index: tf.Variable(self._value(x), trainable=False) for x in references}

    def _write(self, node: Node, inputs: Sequence[Any]) -> None:
        """An op that leaves its result in a variable: what each lane leaves is its output."""
        target = inputs[0].index
        reference, candidate = (lane.variables[target] for lane in self.lanes)
        before = read(reference)
        trial = self._trial_variable(before)
        reference_inputs = [inputs[0], *(x.reference for x in inputs[1:])]
        candidate_inputs = [inputs[0], *(x.candidate for x in inputs[1:])]
        between = compare(to_numpy(before), to_numpy(candidate))
        inherited = max([between.normwise_relative_error, *(x.difference for x in inputs[1:])])
        same = between.num_unequal == 0 and all(x.own is None for x in inputs[1:])
        self.reference.write(node, reference_inputs, reference)
        self.candidate.write(node, reference_inputs, trial)
        if same:
            write(candidate, read(trial))
        else:
            self.candidate.write(node, candidate_inputs, candidate)
        if node.location.index is not None:
            visible = [before, *(x.reference for x in inputs[1:])]

            def run_again(place: EagerPlace) -> list[Any]:
                other = self._trial_variable(before)
                place.write(node, reference_inputs, other)
                return [to_numpy(other)]

            evidence = OpEvidence(
                node,
                visible,
                [to_numpy(trial)],
                [to_numpy(reference)],
                run_again=run_again,
                candidate_inputs=candidate_inputs,
                inherited=inherited,
            )
            self._record(evidence, None if same else [to_numpy(candidate)])

    def _trial_variable(self, value: Any) -> tf.Variable:
        """A variable at the candidate that holds a value until the next is asked for; making one takes 0.1 ms."""
        trial = self._trial
        if trial is not None and trial.dtype == value.dtype and trial.shape == value.shape:
            write(trial, value)
            return trial
        with tf.device(self.lanes[1].place.device):
            self._trial = tf.Variable(value, trainable=False)
        return self._trial

    def _note_fallback(self, node: Node) -> None:
        kind = self.lanes[1].place.device.split(":")[0]
        if kind != "CPU" and not has_kernel(node.op, self.candidate.attributes.of(node.proto), kind):
            self.fallbacks.add(node.op)

    # -- judging -------------------------------------------------------------------------------

    def _record(self, evidence: OpEvidence, own: list[Any] | None) -> list[PairStatistics]:
        """Judge an op's outputs; `own` are the candidate's on its own values, None where those are the same."""
        node = evidence.node
        local = [compare(a, b) for a, b in zip(evidence.reference, evidence.candidate, strict=True)]
        propagated = local if own is None else [compare(a, b) for a, b in zip(evidence.reference, own, strict=True)]
        identical = [s.num_unequal == 0 and s.num_zero_sign == 0 for s in local]
        judgements, of_reference = self._judgements(evidence, all(identical))
        isolated = self._isolated(evidence) if any(_is_out(judgement) for judgement in judgements) else None
        repeated = None if all(identical) else self._repeated(evidence)
        if repeated is not None:
            evidence, judgements, repeated = self._worse(evidence, judgements, repeated)
            identical = [False] * len(identical)
        for output, (judgement, at_reference) in enumerate(zip(judgements, of_reference, strict=True)):
            where = where_of_op(self.step, node, output)
            x = evidence.candidate[output]
            note = judgement.note or (NONDETERMINISM if repeated is not None else "")
            if identical[output] and _is_out(judgement):
                note = SHARED_ERROR
            observation = Observation(
                where,
                x.shape,
                propagated[output].dtype,
                _verdict(judgement, identical[output]),
                judgement.bound,
                propagated[output],
                judgement.statistics,
                at_reference.statistics if at_reference else None,
                _became_nonfinite(evidence, output, local[output]),
                note,
                reference_bound=at_reference.bound if at_reference else None,
                inherited=evidence.inherited,
                divisor=evidence.divisor,
                flipped=judgement.decided,
            )
            if observation.relation is Relation.AMPLIFIED and own is not None:
                found = flipped(
                    node, evidence.inputs, self._candidate_values(evidence.candidate_inputs), evidence.reference, own
                )
                observation = replace(observation, flipped=found)
            if self.explain is not None and observation.verdict is Verdict.DIVERGENCE:
                observation = self.explain(self._record_of(observation, evidence, output, repeated, isolated))
            self._keep(observation)
        self._executed[node.location.index or 0] += 1
        return propagated

    def _candidate_values(self, inputs: Sequence[Any]) -> list[Any]:
        return [read(self.lanes[1].variables[x.index]) if isinstance(x, VariableRef) else x for x in inputs]

    def _record_of(
        self,
        observation: Observation,
        evidence: OpEvidence,
        output: int,
        repeated: list[Any] | None,
        isolated: list[Any] | None,
    ) -> OpRecord:
        again = evidence.candidate if repeated is None else repeated
        return OpRecord(observation, evidence, output, again[output], None if isolated is None else isolated[output])

    def _isolated(self, evidence: OpEvidence) -> list[Any] | None:
        """What the candidate gives for the same inputs with nothing remembered."""
        if evidence.run_again is None or is_random(evidence.node.op):
            return None
        return evidence.run_again(with_nothing_remembered(self.candidate))

    def _repeated(self, evidence: OpEvidence) -> list[Any] | None:
        """What the candidate gives for the same inputs a second time; None where it is the same."""
        if evidence.run_again is None or is_random(evidence.node.op):
            return None
        again = evidence.run_again(self.candidate)
        return None if all(map(same_bits, again, evidence.candidate)) else again

    def _worse(
        self, evidence: OpEvidence, judgements: list[OpJudgement], repeated: list[Any]
    ) -> tuple[OpEvidence, list[OpJudgement], list[Any]]:
        """Of two runs that differ, the one further out of its bound is the op's output; gives also the other."""
        if evidence.truth is None:
            return evidence, judgements, repeated
        others = self.judge.against(evidence, repeated, evidence.reference)
        worst = [max((j.bound.excess for j in each if j.bound), default=0.0) for each in (judgements, others)]
        if worst[1] <= max(worst[0], 1.0):
            return evidence, judgements, repeated
        return replace(evidence, candidate=repeated), others, evidence.candidate

    def _judgements(
        self, evidence: OpEvidence, identical: bool
    ) -> tuple[list[OpJudgement], Sequence[OpJudgement | None]]:
        """The candidate's judgements and the reference's, None where it has none."""
        if identical and not self.truth_everywhere:
            return [OpJudgement(None, note="identical") for _ in evidence.candidate], [None] * len(evidence.candidate)
        judgements = self.judge.judge(evidence)
        if identical:
            return judgements, judgements
        return judgements, self.judge.reference(evidence)

    def _keep(self, observation: Observation) -> None:
        """Of the rounds of a loop, the worst."""
        key = (observation.where.op_index or 0, observation.where.output)
        if observation.verdict is Verdict.DIVERGENCE:
            self._first_wrong.setdefault(key, self._executed[key[0]])
        known = self.observations.get(key)
        if (
            known is None
            or observation.excess > known.excess
            or (observation.verdict is Verdict.DIVERGENCE and known.verdict is not Verdict.DIVERGENCE)
        ):
            self.observations[key] = observation

    @cached_property
    def _in_loops(self) -> set[int | None]:
        """Indices of the ops in the bodies of loops, and in what these call."""
        functions = self.program.functions
        loops = [node for graph in (self.program.graph, *functions.values()) for node in graph if node.op in WHILE_OPS]
        return {node.location.index for name in called_functions(loops, functions) for node in functions[name]}

    def _with_iteration(self, key: tuple[int, int]) -> Observation:
        """Of an op in a loop, the cause says in which iteration it was wrong first."""
        observation, number = self.observations[key], self._executed[key[0]]
        if observation.cause is None or key not in self._first_wrong or key[0] not in self._in_loops:
            return observation
        first, cause = self._first_wrong[key], observation.cause
        said = f"first in iteration {first} of the {number}"
        summary = f"{cause.summary}, {said}" if cause.summary else said
        facts = {**cause.facts, "iteration": first, "iterations": number}
        return replace(observation, cause=replace(cause, summary=summary, facts=facts))


def _is_out(judgement: OpJudgement) -> bool:
    return judgement.bound is not None and not judgement.bound.is_explained


def _verdict(judgement: OpJudgement, identical: bool) -> Verdict:
    if identical:
        return Verdict.IDENTICAL
    if _is_out(judgement):
        return Verdict.DIVERGENCE
    return Verdict.UNJUDGED if judgement.bound is None else Verdict.ROUNDING


def _became_nonfinite(evidence: OpEvidence, output: int, local: PairStatistics) -> bool:
    """Whether finite inputs gave a candidate's output that is not finite."""
    x = evidence.candidate[output]
    if not local.classes.num_without_distance or x.dtype.kind in "biu" or np.isfinite(x).all():
        return False
    return all(np.isfinite(to_numpy(t)).all() for t in evidence.inputs if t.dtype in FLOATS)


def snapshot_lanes(lanes: tuple[Lane, Lane], state: Sequence[Any]) -> tuple[Lane, Lane]:
    """Fresh lanes at the same places, both starting from one saved state."""
    reference, candidate = (Lane(lane.name, lane.place, lane.simulation, state) for lane in lanes)
    return reference, candidate
