"""What flows from the engines to the verdict and the report: one record per judged output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from diag.common.jsonable import json_number
from diag.common.source_lines import SourceLine
from diag.numerics.figures import Bound, PairStatistics, TruthStatistics

# Both lanes have the same bits, and are wrong: the computation, not the device.
SHARED_ERROR = "shared-error"
NORMWISE = "algorithm:normwise"
NOBODY = "none"
"""Whom to blame where no part of the stack is: for weights that differ."""


class Verdict(str, Enum):
    """On one output of one unit."""

    IDENTICAL = "identical"  # bit for bit what the reference computed, and the reference was judged
    ROUNDING = "rounding"
    DIVERGENCE = "divergence"
    UNJUDGED = "unjudged"  # no truth to judge by


class Relation(str, Enum):
    """Of an output's difference to those of its inputs."""

    NONE = "none"  # the output does not differ
    INTRODUCED = "introduced"  # by this unit: its inputs do not differ, or it is out of bound by itself
    INHERITED = "inherited"  # of the size that the inputs differ by
    AMPLIFIED = "amplified"  # far larger than the inputs differ by, although the unit is right by itself


# A unit that makes a difference this many times larger is worth a line.
AMPLIFIES = 30.0
PHASE_ORDER = {"forward": 0, "backward": 1, "optimizer": 2}


@dataclass(frozen=True)
class Where:
    """An output of a unit at a step.  `order` is its place in the step's execution."""

    step: int
    phase: str
    unit: str  # op, layer or step
    layer: str | None
    variable: str | None = None
    op_type: str | None = None
    op_index: int | None = None
    output: int = 0
    name: str = ""
    order: int = 0

    @property
    def sort_key(self) -> tuple[int, int, int]:
        """In order of execution: step, phase, place in the step."""
        return (self.step, PHASE_ORDER[self.phase], self.order)

    @property
    def location(self) -> tuple[Any, ...]:
        """What makes two findings one: everything but the step."""
        return (
            self.unit,
            self.phase,
            self.layer,
            self.variable,
            self.op_index,
            self.output if self.unit == "op" else 0,
        )

    def describe(self) -> str:
        """`op 3 Conv2D of conv, step 0, forward`."""
        what = f"op {self.op_index} {self.op_type}" if self.unit == "op" else f"{self.unit}"
        of = f" of {self.layer}" if self.unit == "op" and self.layer else f" {self.layer or ''}"
        written = f" ({self.variable})" if self.variable else ""
        return f"{what}{of}{written}, step {self.step}, {self.phase}"


@dataclass(frozen=True)
class Cause:
    """What kind of wrong.

    summary: what the hypothesis explains, in words; "" where the name says it all.  facts: figures for the reader.
    in_other_dtype: the op ran in another dtype than the graph says.  missed_nonfinite: a check let numbers pass that
    are not finite.
    """

    name: str = "unknown"
    summary: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    in_other_dtype: bool = False
    missed_nonfinite: bool = False

    @property
    def evidence(self) -> dict[str, Any]:
        """As report.json has it."""
        return {**({"summary": self.summary} if self.summary else {}), **self.facts}

    def with_facts(self, **more: Any) -> Cause:
        """The same cause with more figures for the reader."""
        return replace(self, facts={**self.facts, **more})


@dataclass(frozen=True)
class Observation:
    """One output, judged.

    propagated: the candidate on its own values against the reference.  local: the candidate's
    output on the reference's inputs, against truth.  reference_local: the same for the reference, and
    reference_bound its bound.  inherited: the largest norm-wise relative difference of the op's inputs.
    flipped: what the lanes decided differently, in words.  cause: of an op out of its bound.
    divisor: of a division of all elements by one number, that number.
    """

    where: Where
    shape: tuple[int, ...]
    dtype: str
    verdict: Verdict
    bound: Bound | None = None
    propagated: PairStatistics | None = None
    local: TruthStatistics | None = None
    reference_local: TruthStatistics | None = None
    became_nonfinite: bool = False
    note: str = ""
    cause: Cause | None = None
    reference_bound: Bound | None = None
    inherited: float = 0.0
    flipped: str = ""
    divisor: float | None = None

    @property
    def produced(self) -> float:
        """The norm-wise relative difference of the output, the lanes on their own values."""
        return 0.0 if self.propagated is None else self.propagated.normwise_relative_error

    @property
    def relation(self) -> Relation:
        """Where the difference of this output comes from."""
        if not self.differs:
            return Relation.NONE
        if self.verdict is Verdict.DIVERGENCE or not self.inherited:
            return Relation.INTRODUCED
        return Relation.AMPLIFIED if self.produced > AMPLIFIES * self.inherited else Relation.INHERITED

    @property
    def excess(self) -> float:
        """Error over bound; 0 where there is no bound."""
        return self.bound.excess if self.bound is not None else 0.0

    @property
    def differs(self) -> bool:
        """Whether the lanes, on their own values, have any other number."""
        return self.propagated is not None and self.propagated.num_unequal > 0


@dataclass(frozen=True)
class FusedOps:
    """Ops that are wrong only when they are compiled together.

    region: their types, `MatMul+BiasAdd+Relu`; "" where they were not narrowed down.  layers: whose they are.
    vanishes_when_watched: types of the ops whose output, when it is fetched, makes the others right.
    """

    region: str = ""
    op_indices: tuple[int, ...] = ()
    layers: tuple[str, ...] = ()
    vanishes_when_watched: tuple[str, ...] = ()

    def render(self) -> str:
        """Which ops are wrong together, and that to watch them hides it; "" where it is one op, or none is known."""
        if "+" not in self.region:
            return ""
        of = f" of {' and '.join(self.layers)}" if len(self.layers) > 1 else ""
        watched = " or ".join(dict.fromkeys(self.vanishes_when_watched))
        hidden = f", and right when the output of {watched} is watched" if watched else ""
        return f"Wrong together: {self.region}{of}{hidden}."

    def to_dict(self) -> dict[str, Any]:
        """As report.json has it among the evidence."""
        region = {"region": self.region, "region_op_indices": list(self.op_indices)} if self.region else {}
        lists = {"vanishes_when_watched": self.vanishes_when_watched, "layers": self.layers}
        return {**region, **{name: list(values) for name, values in lists.items() if values}}

    @classmethod
    def from_dict(cls, evidence: Mapping[str, Any]) -> FusedOps:
        """From the evidence in a report.json."""
        lists = (evidence.get(name, ()) for name in ("region_op_indices", "layers", "vanishes_when_watched"))
        return cls(evidence.get("region", ""), *map(tuple, lists))


@dataclass(frozen=True)
class Divergence:
    """An output that rounding does not explain, with cause and blame.

    summary: what the cause explains, in words.  fused: what is wrong only together, where that was looked for.
    evidence: facts for the reader, as report.json lists them; nothing in the program goes by them.
    lines: of the person's own, which made it.
    """

    where: Where
    cause: str
    blame: str
    excess: float
    cured_by: tuple[str, ...] = ()
    evidence: dict[str, Any] = field(default_factory=dict)
    summary: str = ""
    fused: FusedOps | None = None
    lines: tuple[SourceLine, ...] = ()

    @classmethod
    def of(
        cls,
        where: Where,
        cause: Cause,
        blame: str,
        excess: float,
        cured_by: tuple[str, ...] = (),
        fused: FusedOps | None = None,
    ) -> Divergence:
        """With the evidence of its cause and of what is fused."""
        evidence = cause.evidence if fused is None else {**cause.evidence, **fused.to_dict()}
        return cls(where, cause.name, blame, excess, cured_by, evidence, cause.summary, fused)

    def with_evidence(self, **more: Any) -> Divergence:
        """The same with more facts for the reader."""
        return replace(self, evidence={**self.evidence, **more})

    def to_dict(self) -> dict[str, Any]:
        """The form of report.json, schema lockstep-report/1."""
        where = self.where
        return {
            "step": where.step,
            "phase": where.phase,
            "unit": where.unit,
            "op_type": where.op_type,
            "op_index": where.op_index,
            "output": where.output,
            "layer": where.layer,
            "variable": where.variable,
            "cause": self.cause,
            "blame": self.blame,
            "excess": json_number(self.excess),
            "cured_by": list(self.cured_by),
            "evidence": {**self.evidence, **({"made_at": list(map(str, self.lines))} if self.lines else {})},
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Divergence:
        """From a report.json, which does not say where in the step's order it stands, and what its output is called."""
        names = ("step", "phase", "unit", "layer", "variable", "op_type", "op_index", "output")
        evidence = dict(document["evidence"])
        return cls(
            Where(*(document[name] for name in names)),
            document["cause"],
            document["blame"],
            float(document["excess"]),
            tuple(document["cured_by"]),
            evidence,
            evidence.get("summary", ""),
            FusedOps.from_dict(evidence),
        )
