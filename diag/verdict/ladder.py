"""The verdict ladder: from judged outputs to one verdict, in the order in which it is decided.

| rung | what is seen | verdict | blame |
|---|---|---|---|
| 0 | of two models, a layer on the same inputs with the second's weights is out of its bound | divergence | none |
| 1 | an op, alone and on the same inputs, is out of its bound | divergence | `blame_of_op` |
| 1b | a layer is out of its bound, and an op of it that has no float64 truth makes a difference | divergence | kernel |
| 2 | a compiled layer is out of its bound, each of its ops is within | divergence | `blame_of_layer` |
| 2b | that layer is within its bound in one of three more runs on the same inputs | divergence | kernel |
| 3 | the compiled step is out of its bound, each layer is within | divergence | `blame_of_layer` |
| 4 | the step's own run is out of its bound, the same step run again is not | divergence | kernel |
| 5 | a random stream repeats itself, or another, or is not of its law | divergence | random-stream |
| 6 | an op differs on the same inputs and has no float64 truth | rounding, inconclusive there | none |
| 7 | an op is right in norm, decides ties otherwise, or gives other bits in a second run | rounding, noted | none |
| 8 | bits differ, everything judged is within its bound | rounding | none |
| 9 | no bit differs | identical | none |

docs/VERDICTS.md says the same at length, with the causes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from diag.numerics.formats import FLOAT32, format_of
from diag.verdict.advisories import is_inconclusive
from diag.verdict.findings import AMPLIFIES, NORMWISE, PHASE_ORDER, Cause, Divergence, Observation, Relation, Verdict
from diag.verdict.result import Amplifier

# Rung 1: whose fault an op's error is, where the cause or the op says that it is no arithmetic.
BLAME: dict[str, str] = {"random-stream": "random-stream", "skipped-update": "state-update"}


def overall(divergences: Sequence[Divergence], any_bit_differs: bool) -> str:
    """The verdict of a run, as report.json has it."""
    if divergences:
        return "divergence"
    return "rounding" if any_bit_differs else "identical"


def blame_of_op(cause: Cause, observation: Observation) -> str:
    """Rung 1: an op that is wrong by itself is its kernel's fault, but for what is no arithmetic.

    What ran in another dtype than the graph says, inputs and result, was cast by the framework: a kernel does
    not choose its dtype.  A check of the optimizer's that let numbers pass that are not finite decided what is
    written.
    """
    if cause.name in BLAME:
        return BLAME[cause.name]
    if cause.in_other_dtype:
        return "framework"
    if cause.missed_nonfinite and observation.where.phase == "optimizer":
        return "state-update"
    if "Assign" in (observation.where.op_type or ""):
        return "state-update"
    return "kernel"


_OF_KERNELS = ("format:tf32", "accumulate:")
# By how much a layer with an op that is right in norm may be out of its bound: a healthy H100 was by 2.3.
MOST_BY_NORM = 16.0


def blame_of_layer(cause: str, execution: str) -> str:
    """Rungs 2 and 3: the ops are right, so what put them together is not.

    But no rewriter can write that operands are to be rounded to TF32, or sums kept in a narrow format: there is no
    such op.  A kernel does that, one that a compiled step gets and an eager op does not (cuDNN in another layout).
    """
    if cause == "random-stream":
        return "random-stream"
    if cause.startswith(_OF_KERNELS):
        return "kernel"
    return {"xla": "xla", "graph": "graph-rewriter"}.get(execution, "kernel")


def unexplained_layers(
    flagged: Sequence[Observation], guilty: Sequence[Observation], ops_of: Callable[[Observation], Collection[int]]
) -> list[Observation]:
    """Of the layers out of bound, the first output of each that no guilty op of its own explains.

    `ops_of` gives the indices of the ops of a layer's unit.  A guilty op explains what its layer
    hands on in the same phase or a later one; one that is right in norm alone, no more than a little: what such ops do
    to a layer is in its bound already.
    """
    found: dict[tuple[str | None, str | None], Observation] = {}
    for observation in sorted(flagged, key=lambda o: o.where.sort_key):
        own = ops_of(observation)
        phase = PHASE_ORDER[observation.where.phase]
        before = (op for op in guilty if op.where.op_index in own and PHASE_ORDER[op.where.phase] <= phase)
        if any(op.note != NORMWISE or observation.excess <= MOST_BY_NORM for op in before):
            continue
        found.setdefault((observation.where.layer, observation.where.variable), observation)
    if len(found) > 1:  # the whole step is named only where no layer is
        found = {key: o for key, o in found.items() if o.where.unit != "step"} or found
    return list(found.values())


def implicated(layer: Observation, ops: Sequence[Observation], own: Collection[int]) -> Observation | None:
    """Of a layer's ops (`own`, their indices), the first that nothing can judge and that made a difference by itself.

    None where what its inputs, or one rounding, explain is as large: then it is no more suspect than the others.
    """
    phase = PHASE_ORDER[layer.where.phase]
    candidates = [o for o in ops if o.where.op_index in own and PHASE_ORDER[o.where.phase] <= phase]
    made = (o for o in candidates if is_inconclusive(o) and not o.produced <= AMPLIFIES * _explained(o))
    return min(made, key=lambda o: o.where.sort_key, default=None)


def _explained(op: Observation) -> float:
    """Of an op's norm-wise relative difference, what its inputs or one rounding make (of complex64: float32's)."""
    narrow = format_of(np.dtype(op.dtype)) if op.dtype in ("float16", "bfloat16", "float64") else FLOAT32
    return max(op.inherited, narrow.unit_roundoff)


def first_difference(observations: Sequence[Observation]) -> Observation | None:
    """The earliest output that the lanes themselves do not agree on, each on its own values."""
    differing = [o for o in observations if o.differs]
    return min(differing, key=lambda o: o.where.sort_key, default=None)


def first_nonfinite(observations: Sequence[Observation]) -> Observation | None:
    """The earliest output that finite inputs brought to infinity or NaN."""
    return min((o for o in observations if o.became_nonfinite), key=lambda o: o.where.sort_key, default=None)


def amplifiers_in(path: Sequence[Observation]) -> list[Amplifier]:
    """Units, innocent themselves, whose output differs far more than anything before it did."""
    result: list[Amplifier] = []
    inherited = 0.0
    for observation in path:
        if observation.propagated is None or observation.where.phase == "optimizer":
            continue
        produced = observation.propagated.normwise_relative_error
        innocent = observation.verdict is not Verdict.DIVERGENCE
        if innocent and inherited > 0 and produced > AMPLIFIES * inherited:
            result.append(Amplifier(observation, inherited, produced))
        inherited = max(inherited, produced)
    return result


def amplifying_ops(ops: Sequence[Observation]) -> list[Amplifier]:
    """The same of single ops, each against what its own inputs differ by."""
    return [
        Amplifier(op, op.inherited, op.produced, op.flipped)
        for op in ops if op.relation is Relation.AMPLIFIED and op.where.phase != "optimizer"
    ]  # fmt: skip
