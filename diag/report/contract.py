"""report.json as records: what `json_report` makes, and what docs/lockstep-report-1.schema.json is generated from.

`python -m tests.report.schema` writes that file again.  Keys may be added and are then optional, or of a part that may
be missing; none is renamed, removed or given another meaning within lockstep-report/1.
"""

from __future__ import annotations

from typing import Any, Literal

from typing_extensions import NotRequired, TypedDict

Number = float | Literal["nan", "inf", "-inf"]
"""JSON has no NaN and no infinity: they are texts that float() reads."""


class Tool(TypedDict):
    """What made the report."""

    name: str
    version: str


class PlaceInStep(TypedDict):
    """An output of a unit, in a step.  Steps and ops count from 0."""

    step: int
    phase: Literal["forward", "backward", "optimizer"]
    unit: Literal["op", "layer", "step"]
    op_type: str | None
    op_index: int | None
    output: int
    layer: str | None
    variable: str | None


class DivergenceRecord(PlaceInStep):
    """A unit whose error rounding does not explain.  excess: error over bound.

    evidence: facts for a reader, among them `made_at`, the lines of source that made it; `p_rounding`, the share of
    controls in which an error of its kind came as far; `p_rounding_extrapolated`, the same by their tail if none did.
    """

    cause: str
    blame: str
    excess: Number
    cured_by: list[str]
    evidence: dict[str, Any]


class DriftRecord(TypedDict):
    """Ops of one lane whose errors, within their bounds, are all on one side.

    num_ops: in how many of them the lanes differ, of which in num_leaning this way.  chance: of that by rounding alone.
    """

    lane: Literal["reference", "candidate"]
    op_types: list[str]
    direction: Literal["towards zero", "away from zero", "up", "down"]
    num_ops: int
    num_leaning: int
    mean_error_ulp: LaneMeans
    chance: float
    sentence: str


class LaneMeans(TypedDict):
    reference: float
    candidate: float


class LaneValues(TypedDict):
    reference: Number | None
    candidate: Number | None


class BitDifference(PlaceInStep):
    """Where the two places have other bits first; figures where their shapes agree.  max_ulp: NaN of integers."""

    num_unequal: NotRequired[int]
    num_zero_sign: NotRequired[int]
    size: NotRequired[int]
    max_ulp: NotRequired[Number]
    normwise_relative_error: NotRequired[Number]
    worst_index: NotRequired[list[int] | None]
    values: NotRequired[LaneValues]


class AmplifierRecord(PlaceInStep):
    """A unit, right by itself, out of which comes a far larger relative difference than went in."""

    inherited: Number
    produced: Number
    factor: Number
    flipped: str


class UnitRecord(PlaceInStep):
    """A unit of the path of a step, or one with a large error.

    name: as it is printed.  excess: error over bound; null where it was not judged.  difference: of the two places'
    own values, relative and in norm.  index, values: of the element that is furthest apart.
    """

    name: str
    verdict: Literal["identical", "rounding", "divergence", "unjudged"]
    excess: Number | None
    difference: Number | None
    max_ulp: Number | None
    index: list[int] | None
    values: LaneValues | None


class WeightRecord(TypedDict):
    """A variable that holds other numbers in the candidate's model.

    cause, evidence: how they follow from the reference's, as of a divergence.  difference: relative, in norm.
    """

    variable: str
    layer: str | None
    cause: str
    evidence: dict[str, Any]
    difference: Number
    num_differing: int
    size: int


class WeightedLayerRecord(TypedDict):
    """Of the first step, relative and in norm.  own: what the layer's own weights alone do to its output, on the
    reference's inputs; excess: that over what rounding explains.  apart: with what it inherits from the layers before,
    which are apart by at most `inherited`; amplifies: far more than its weights and these are.
    """

    layer: str
    own: Number
    excess: Number
    apart: Number
    inherited: Number
    amplifies: bool


class PredictionsRecord(TypedDict):
    """Of all steps.  difference: relative, in norm.  largest: in absolute value.

    num_classified: rows of scores; num_other_class: those of them whose largest is another one's.
    """

    difference: Number
    largest: Number
    num_classified: int
    num_other_class: int


class WeightsRecord(TypedDict):
    """Two models of one architecture.  model: the candidate's, as named.  num_compared: variables that are read.

    unjudged: of `differing`, those that no layer reads which can be run by itself.
    """

    model: str
    sentence: str
    num_compared: int
    unjudged: list[str]
    differing: list[WeightRecord]
    layers: list[WeightedLayerRecord]
    predictions: PredictionsRecord


class NoteRecord(TypedDict):
    kind: Literal["simulated", "unfinished", "note"]
    text: str


class LaneRecord(TypedDict):
    """Where a lane ran; besides these keys, all that is known of its environment.

    loss: a number a step; in prediction there is `mean_of_the_outputs`.  judged: of the candidate, how much was seen.
    """

    place: str
    simulated: bool
    loss: NotRequired[list[Number]]
    mean_of_the_outputs: NotRequired[list[Number]]
    judged: NotRequired[dict[str, Any]]


class Lanes(TypedDict):
    reference: LaneRecord
    candidate: LaneRecord


class ReportDocument(TypedDict):
    """report.json, schema lockstep-report/1.

    path: the units of the step of the first divergence, or else of the last that was looked at, in order of execution.
    worst: the units and ops of the whole run with the largest errors.  created: when the run began, ISO 8601 in UTC.
    seconds: that it took.  mode: where not a training was looked at.
    """

    schema: Literal["lockstep-report/1"]
    verdict: Literal["identical", "rounding", "divergence"]
    first_divergence: DivergenceRecord | None
    divergences: list[DivergenceRecord]
    first_bit_difference: BitDifference | None
    first_nonfinite: PlaceInStep | None
    amplifiers: list[AmplifierRecord]
    steps: int
    lanes: Lanes
    files: dict[str, str]
    mode: NotRequired[Literal["predict"]]
    tool: NotRequired[Tool]
    command: NotRequired[list[str]]
    created: NotRequired[str]
    seconds: NotRequired[float]
    model: NotRequired[str]
    data: NotRequired[str]
    notes: NotRequired[list[NoteRecord]]
    path: NotRequired[list[UnitRecord]]
    worst: NotRequired[list[UnitRecord]]
    attribution: NotRequired[dict[str, Any]]
    substitution: NotRequired[dict[str, Any]]
    updates: NotRequired[list[dict[str, Any]]]
    shared_errors: NotRequired[list[dict[str, Any]]]
    reference_errors: NotRequired[list[dict[str, Any]]]
    drift: NotRequired[list[DriftRecord]]
    random_streams: NotRequired[list[dict[str, Any]]]
    twins: NotRequired[dict[str, Any]]
    weights: NotRequired[WeightsRecord]
