"""What is worth saying of ops that are no fault: benign causes, a reference that is further from truth, no truth."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from diag.common.jsonable import json_number
from diag.verdict.findings import SHARED_ERROR, Observation, Verdict

# What an op may do that no bound per element allows, or that another run does not repeat, and that is right
# all the same: by the note of its observation.
BENIGN = {
    "decision-flip": "ties were decided the other way (decision-flip)",
    "algorithm:normwise": "right in norm, not by element, as Winograd, FFT and Strassen are (algorithm:normwise)",
    "long-sum": "a long sum, which loses digits in whatever order it is added (long-sum)",
    "own-decision": "float64 takes another branch than its format does, whose branch it is held to (own-decision)",
    "intermediate-overflow": "a number on the way leaves the range of its format, in this order of products and sums "
    "or another (intermediate-overflow)",
    "subnormal-flush": "subnormal numbers inside became zero, as on most devices (subnormal-flush)",
    "nondeterminism": "other bits in a second run on the same inputs, each run within its bound (nondeterminism)",
}
NAMED = 3  # of many ops, so many are named in a sentence


@dataclass
class Advisories:
    """Gathered from units and from the ops under the microscope, step by step.

    shared: wrong in both lanes alike.  reference_out: of which the reference is out of its bound, the candidate not.
    """

    benign: dict[tuple[Any, ...], Observation] = field(default_factory=dict)
    inconclusive: dict[tuple[Any, ...], Observation] = field(default_factory=dict)
    num_compared: int = 0
    num_reference_worse: int = 0
    reference_out: dict[tuple[Any, ...], Observation] = field(default_factory=dict)
    reference_worst: Observation | None = None
    shared: dict[tuple[Any, ...], Observation] = field(default_factory=dict)

    def add(self, ops: Iterable[Observation]) -> None:
        for op in ops:
            self._see(op)
            if is_inconclusive(op):
                self.inconclusive.setdefault(op.where.location, op)
            if op.differs and op.bound is not None and op.reference_bound is not None:
                self._compare(op, op.bound.excess, op.reference_bound.excess)

    def add_units(self, units: Iterable[Observation]) -> None:
        for unit in units:
            self._see(unit)

    def _see(self, observation: Observation) -> None:
        location, of_reference = observation.where.location, observation.reference_bound
        if observation.note == SHARED_ERROR:
            self.shared.setdefault(location, observation)
        if observation.verdict is not Verdict.ROUNDING:
            return
        if observation.note in BENIGN:
            self.benign.setdefault((observation.note, *location), observation)
        if of_reference is not None and not of_reference.is_explained:
            overflows = math.isinf(of_reference.excess) and observation.became_nonfinite
            if not overflows:  # else both places leave the range of the format, each in elements of its own
                self.reference_out.setdefault(location, observation)

    def _compare(self, op: Observation, candidate: float, reference: float) -> None:
        self.num_compared += 1
        if reference <= candidate:
            return
        self.num_reference_worse += 1
        worst = self.reference_worst
        if worst is None or worst.reference_bound is None or reference > worst.reference_bound.excess:
            self.reference_worst = op

    @property
    def notes(self) -> list[str]:
        result = [
            f"{_listed([op for key, op in self.benign.items() if key[0] == kind])}: {words}, no fault"
            for kind, words in BENIGN.items() if any(key[0] == kind for key in self.benign)
        ]  # fmt: skip
        if self.reference_out:
            result.append(
                f"the reference is the one that is out of its bound in {_listed(list(self.reference_out.values()))}: "
                "the candidate is nearer to float64 truth there"
            )
        if self.shared:
            result.append(
                f"both places give the same bits in {_listed(list(self.shared.values()))}, far from float64 truth: the "
                "computation is to blame, not the device"
            )
        if self.inconclusive:
            result.append(
                f"inconclusive: {_listed(list(self.inconclusive.values()))} differ on the same inputs and have no "
                "float64 truth to be held against"
            )
        return result

    def errors(self) -> dict[str, Any]:
        """The fields of `RunResult` that tell of lanes other than the candidate: as report.json lists them."""
        shared = tuple({**_place(o), "excess": json_number(o.excess)} for o in self.shared.values())
        of_reference = tuple({**_place(o), "excess": _excess_of_reference(o)} for o in self.reference_out.values())
        return {"shared_errors": shared, "reference_errors": of_reference}

    def as_judged(self) -> dict[str, Any]:
        """The fields of `Judged` that these fill."""
        worst = self.reference_worst
        return {
            "benign": tuple(
                {"cause": key[0], **_place(op), **({"decided": op.flipped} if op.flipped else {})}
                for key, op in self.benign.items()
            ),
            "inconclusive": tuple(_place(op) for op in self.inconclusive.values()),
            "reference_less_accurate": {
                "num_outputs": self.num_reference_worse,
                "of_differing": self.num_compared,
                "num_out_of_bound": len(self.reference_out),
                "worst": None if worst is None else {**_place(worst), "excess": _excess_of_reference(worst)},
            },
        }


def is_inconclusive(op: Observation) -> bool:
    """Whether a difference that an op made by itself could not be judged."""
    return op.verdict is Verdict.UNJUDGED and op.differs and op.note != "random"


def _excess_of_reference(op: Observation) -> float | str:
    return json_number(op.reference_bound.excess if op.reference_bound is not None else 0.0)


def _place(op: Observation) -> dict[str, Any]:
    where = op.where
    return {
        "step": where.step, "phase": where.phase, "unit": where.unit, "op_type": where.op_type,
        "op_index": where.op_index, "output": where.output, "layer": where.layer, "variable": where.variable,
    }  # fmt: skip


def _listed(ops: Sequence[Observation]) -> str:
    named = "; ".join(op.where.describe() for op in ops[:NAMED])
    return named + (f"; and {len(ops) - NAMED} more ops" if len(ops) > NAMED else "")
