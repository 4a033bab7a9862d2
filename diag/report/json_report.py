"""report.json, schema lockstep-report/1: the contract that other programs read."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, cast

from diag import NAME, __version__
from diag.common.jsonable import json_safe
from diag.common.modes import TRAIN, figure_key
from diag.numerics.figures import PairStatistics
from diag.report import attribution, rewrites, substitution, weights
from diag.report.growth import growth_sentence
from diag.report.words import drift_sentence, name_of
from diag.verdict.chaos import Trajectories
from diag.verdict.findings import Divergence, Observation, Where
from diag.verdict.result import Amplifier, LaneInfo, RunResult
from diag.verdict.significance import significance

if TYPE_CHECKING:
    from diag.report.contract import AmplifierRecord, BitDifference, LaneValues, PlaceInStep, ReportDocument, UnitRecord

SCHEMA = "lockstep-report/1"


def report(result: RunResult) -> ReportDocument:
    """The report as JSON takes it: no NaN and no infinity (strings that float() reads), no NumPy."""
    divergences = [_divergence(divergence) for divergence in result.divergences]
    if result.rewrites is not None and divergences:
        divergences[0]["evidence"] = {**divergences[0]["evidence"], "rewrites": rewrites.near_report(result.rewrites)}
    contents: dict[str, Any] = {
        "schema": SCHEMA,
        "verdict": result.verdict,
        "first_divergence": divergences[0] if divergences else None,
        "divergences": divergences,
        "first_bit_difference": result.first_bit_difference and _bit_difference(result.first_bit_difference),
        "first_nonfinite": result.first_nonfinite and _place_in_step(result.first_nonfinite.where),
        "amplifiers": [_amplifier(amplifier) for amplifier in result.amplifiers],
        "steps": result.steps,
        "lanes": {lane.name: _lane(lane, result) for lane in result.lanes},
        "files": result.files,
        "tool": {"name": NAME, "version": __version__},
    }
    if result.mode != TRAIN:
        contents["mode"] = result.mode
    optional = {
        "command": result.command, "created": result.created, "seconds": result.seconds, "model": result.model,
        "data": result.data, "notes": result.notes, "path": list(map(_unit, result.path)),
        "worst": list(map(_unit, result.worst)),
        "updates": list(map(dataclasses.asdict, result.updates)), "shared_errors": list(result.shared_errors),
        "reference_errors": list(result.reference_errors), "random_streams": list(result.random_streams),
        "drift": [{**drift.to_dict(), "sentence": drift_sentence(drift)} for drift in result.drift],
    }  # fmt: skip
    contents |= {name: value for name, value in optional.items() if value}
    if result.attribution is not None:
        contents["attribution"] = attribution.report(result.attribution)
    if result.substitution is not None:
        contents["substitution"] = substitution.report(result.substitution)
    if result.weights is not None:
        contents["weights"] = weights.report(result.weights)
    if result.twins is not None:
        contents["twins"] = _twins(result.twins)
    safe: ReportDocument = json_safe(contents)
    return safe


def _divergence(divergence: Divergence) -> dict[str, Any]:
    """With the chance of rounding alone in its evidence, where the controls say something about it."""
    known, whole = significance(divergence), divergence.to_dict()
    return {**whole, "evidence": {**whole["evidence"], **(known.to_dict() if known else {})}}


def _place_in_step(where: Where) -> PlaceInStep:
    keys = ("step", "phase", "unit", "op_type", "op_index", "output", "layer", "variable")
    return cast("PlaceInStep", {key: getattr(where, key) for key in keys})


def _unit(observation: Observation) -> UnitRecord:
    seen = observation.propagated
    return {
        **_place_in_step(observation.where),
        "name": name_of(observation.where),
        "verdict": observation.verdict.value,
        "excess": None if observation.bound is None else observation.bound.excess,
        "difference": None if seen is None else seen.normwise_relative_error,
        "max_ulp": None if seen is None else seen.max,
        "index": None if seen is None or seen.worst_index is None else list(seen.worst_index),
        "values": None if seen is None else _values(seen),
    }


def _values(statistics: PairStatistics) -> LaneValues | None:
    if statistics.worst_values is None:
        return None
    reference, candidate = statistics.worst_values
    return {"reference": reference, "candidate": candidate}


def _bit_difference(observation: Observation) -> BitDifference:
    place = _place_in_step(observation.where)
    statistics = observation.propagated
    if statistics is None:
        return {**place}
    return {
        **place,
        "num_unequal": statistics.num_unequal,
        "num_zero_sign": statistics.num_zero_sign,
        "size": statistics.size,
        "max_ulp": statistics.max,
        "normwise_relative_error": statistics.normwise_relative_error,
        "worst_index": None if statistics.worst_index is None else list(statistics.worst_index),
        "values": _values(statistics) or {"reference": None, "candidate": None},
    }


def _amplifier(amplifier: Amplifier) -> AmplifierRecord:
    return {
        **_place_in_step(amplifier.observation.where),
        "inherited": amplifier.inherited,
        "produced": amplifier.produced,
        "factor": amplifier.factor,
        "flipped": amplifier.flipped,
    }


def _twins(twins: Trajectories) -> dict[str, Any]:
    """The growth curves: a figure a step, and what they say."""
    found = twins.exit
    return {
        "outcome": twins.outcome,
        "inconclusive": twins.is_inconclusive,
        "sentence": growth_sentence(twins),
        "left": found and dataclasses.asdict(found),
        "looked_closer": twins.looked_closer,
        "steps": [twins.first_step + number for number in range(len(twins.envelope))],
        "envelope": twins.envelope,
        "candidate": dataclasses.asdict(twins.candidate),
        "twins": [dataclasses.asdict(twin) for twin in twins.twins],
    }


def _lane(lane: LaneInfo, result: RunResult) -> dict[str, Any]:
    place = {"place": lane.place, "simulated": lane.is_simulated}
    found = {**place, **lane.environment, **place, figure_key(result.mode): result.losses.get(lane.name, [])}
    if lane.name == "candidate":
        found["judged"] = dataclasses.asdict(result.judged)
    return found
