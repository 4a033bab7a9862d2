"""The verdict in one sentence, and causes, blames and places in words."""

from __future__ import annotations

import math
from collections.abc import Sequence

from diag.common.text import as_text
from diag.common.wording import counted, figure, percent
from diag.numerics.tails import LEAST_EXTRAPOLATED
from diag.report.growth import growth_sentence
from diag.report.weights import weights_sentence
from diag.verdict.drift import Drift
from diag.verdict.findings import Divergence, Verdict, Where
from diag.verdict.result import RunResult
from diag.verdict.significance import Significance

# -- sizes -----------------------------------------------------------------------------------------

UNRELATED = 2.0**24
"""ULP: as many float32 values lie between 1 and 4, so that two numbers further apart share no digit."""


def over_bound(excess: float) -> str:
    """An error over its bound, for a table: what is within is never printed as 1."""
    if math.isinf(excess) or math.isnan(excess):
        return "not finite"
    if 0.999 < excess < 1 or 1 < excess < 1.001:
        return "< 1" if excess < 1 else "> 1"
    return _in_full(excess)


def times_explained(excess: float) -> str:
    """The same in a sentence: 210,000 times what rounding can explain."""
    if not math.isfinite(excess):
        return "no rounding does this"
    if 1 < excess < 1.05:
        return "a little more than rounding can explain"
    return f"{_in_full(excess)} times what rounding can explain"


def ulp_text(distance: float) -> str:
    if distance > UNRELATED:
        return "unrelated values"
    return f"{figure(distance)} ULP"


def _in_full(value: float) -> str:
    """Two digits, the thousands written out as far as a person reads them."""
    return f"{float(f'{value:.1e}'):,.0f}" if 1e5 <= value < 1e12 else figure(value)


def chance_text(known: Significance) -> str:
    """Of an excess among those of controls."""
    controls = counted(known.num_controls, "control")
    if known.num_as_far:
        return f"{percent(known.p)}: in {known.num_as_far:,} of {controls} an error of its kind came as far"
    text = f"below 1 in {known.num_controls:,}: in none of {controls} did an error of its kind come as far"
    if known.extrapolated is None:
        return text
    below = "below " if known.extrapolated <= LEAST_EXTRAPOLATED else ""
    return f"{text}; by their tail, extrapolated, {below}{figure(known.extrapolated)}"


# -- causes and blames, as docs/VERDICTS.md has them -----------------------------------------------

CAUSE_WORDS = {
    "rounding": "rounding alone",
    "algorithm:normwise": "right in norm but not element by element, as Winograd, FFT and Strassen are",
    "subnormal-flush": "subnormal numbers became zero",
    "approximate-function": "a cruder approximation of the function than any published one",
    "decision-flip": "a tie, or the side of zero, was decided the other way",
    "nondeterminism": "the same inputs give another result each time",
    "random-stream": "its random numbers are not those it should draw",
    "nonfinite": "NaN or infinity where the truth is finite",
    "missing-op": "an op of the chain was left out",
    "wrong-elements": "some elements are wrong, the rest is right",
    "permuted": "the right values in the wrong places",
    "stale-data": "values left over from an earlier call",
    "skipped-update": "the variable was not written",
    "scaled": "off by a constant factor",
    "unknown": "no known kind of error explains it",
}
FORMAT_WORDS = {
    "tf32-rne": "TF32, 10 mantissa bits, to nearest even",
    "tf32-rz": "TF32, 10 mantissa bits, truncated",
    "bf16": "bfloat16, 7 mantissa bits",
    "fp16": "float16, 10 mantissa bits",
}
BLAME_WORDS = {
    "kernel": "blame the kernel, the device's own code for it",
    "graph-rewriter": "blame the graph rewriter, which fuses and replaces ops when a step is compiled",
    "xla": "blame XLA, which compiled it",
    "framework": "blame the framework's own arithmetic",
    "state-update": "blame the state update, which writes the variables",
    "random-stream": "blame the random stream",
    "unknown": "whom to blame was not looked into",
    "none": "no part of the stack is to blame",
}
CURE_WORDS = {"eager": "running eagerly", "graph": "running as a graph", "xla": "compiling with XLA"}


def explain_cause(divergence: Divergence) -> str:
    """The cause in plain words: what it explains here, or else what it means in general."""
    if divergence.summary:
        return divergence.summary
    kind, _, detail = divergence.cause.partition(":")
    if kind == "format":
        return f"as if rounded to {FORMAT_WORDS.get(detail, detail)}"
    if kind == "accumulate":
        return f"sums kept in {FORMAT_WORDS.get(detail, detail)}"
    return CAUSE_WORDS.get(divergence.cause, "")


def explain_blame(blame: str) -> str:
    return BLAME_WORDS.get(blame, f"blame {blame}")


def explain_cures(cured_by: Sequence[str]) -> str:
    """A sentence, empty where no switch is known to cure."""
    ways = [CURE_WORDS.get(switch.removeprefix("execution="), switch) for switch in cured_by]
    return f"It is cured by {' or by '.join(ways)}." if ways else ""


# -- names -----------------------------------------------------------------------------------------


def name_of(where: Where) -> str:
    """Short enough for a table; step and phase stand elsewhere."""
    return as_text(_name_of(where))


def _name_of(where: Where) -> str:
    output = f" [{where.output}]" if where.output else ""
    if where.unit == "layer" and where.name not in ("", "output"):
        return _name_in_layer(where)
    if where.unit == "op":
        of = where.variable if where.phase == "optimizer" else where.layer
        return f"op {where.op_index} {where.op_type}{output}" + (f" of {of}" if of else "")
    if where.unit == "step":  # gradient of conv/kernel, velocity of conv/kernel: nothing else is named so
        return where.name or "whole step"
    if not where.variable:
        return (where.layer or where.name or where.unit) + output
    if not where.layer or where.variable.startswith(f"{where.layer}/"):
        return where.variable + output
    return f"{where.layer} {where.variable}{output}"


OF_VARIABLES = {"value": "update of", "momentum": "momentum of", "velocity": "velocity of"}
RANDOM_STATES = ("seed_generator_state", "RandomGetKeyCounter")


def _name_in_layer(where: Where) -> str:
    """Of what a layer computes besides its output: nodes of the graph go by what they mean."""
    layer, name = where.layer or "the step", where.name
    if name in OF_VARIABLES and where.variable:
        return f"{OF_VARIABLES[name]} {where.variable}"
    if name.startswith("output of "):
        return name.removeprefix("output of ")
    if name.startswith("gradient of "):
        return name
    if name.endswith(RANDOM_STATES):
        return f"{layer}'s random state"
    if layer.split("+")[-1] == "loss":
        return "loss value" if where.phase == "forward" else "gradient of the loss"
    if where.phase == "backward":
        return f"gradient into {layer}"
    return f"{layer}'s {name}"


def moment_of(where: Where) -> str:
    return as_text(f"step {where.step}, {where.phase}")


def subject_of(where: Where) -> str:
    """The unit as a sentence's subject."""
    written = f" ({where.variable})" if where.variable else ""
    output = f", output {where.output}" if where.output else ""
    if where.unit == "op":
        of = f" of {where.layer}" if where.layer else ""
        return f"op {where.op_index} {where.op_type}{of}{written}{output}"
    if where.unit == "step":
        return "the whole step" + output
    if where.phase == "optimizer" and where.variable:
        return f"the optimizer's update of {where.variable}" + output
    return f"layer {where.layer}{written}{output}"


# -- the verdict -----------------------------------------------------------------------------------


def sentence(result: RunResult) -> str:
    """The verdict, what to do about it, and what errs on one side everywhere."""
    of_places = [*_range_sentences(result), *map(drift_sentence, result.drift)]
    if result.weights is None:
        return " ".join([_sentence(result), *of_places])
    return " ".join([weights_sentence(result.weights), _of_same_weights(result), *of_places])


def _of_same_weights(result: RunResult) -> str:
    """What there is to say of the places, by units and ops that both compute with the reference's weights."""
    if result.first_fault is not None:
        return _sentence_of(result.first_fault, result)
    if result.reference_errors:
        return _sentence_of_reference(result)
    if not num_judged(result):
        return f"Nothing was judged in {counted(result.steps, 'step')}, so nothing else was shown to be right."
    largest = _largest_excess(result) or 0.0
    judged = "no layer and no op" if result.judged.op_outputs else "no layer"
    return f"Given the same weights, {judged} is wrong: the largest error is {over_bound(largest)} of its bound."


def _range_sentences(result: RunResult) -> list[str]:
    """Of the first layer that a format is too narrow for inside, whichever place comes through it."""
    known = [benign for benign in result.judged.benign if benign["cause"] == "intermediate-overflow"]
    if not known:
        return []
    places = {key: value for key, value in known[0].items() if key not in ("cause", "decided")}
    where = Where(**places)
    return [as_text(
        f"Overflow: inside {subject_of(where)}, at {moment_of(where)}, a number leaves the range of its format, which "
        f"may hang on the order of products and sums ({known[0]['decided']}): no place is to blame. Scale the layer "
        "down, or compute it in a format of more range."
    )]  # fmt: skip


def drift_sentence(drift: Drift) -> str:
    """Which ops err on one side, by how much, and how unlikely that is."""
    *others, last = drift.op_types
    listed = f"{', '.join(others)} and {last}" if others else last
    share = "every" if drift.num_leaning == drift.num_ops else f"{drift.num_leaning:,} in {drift.num_ops:,}"
    of_lane = {"reference": drift.reference_bias, "candidate": drift.candidate_bias}
    (other,) = set(of_lane) - {drift.lane}
    return as_text(
        f"Drift: {share} {listed} of the {drift.lane} rounds {drift.direction}: mean error "
        f"{figure(of_lane[drift.lane])} ULP over {counted(drift.num_ops, 'op')}, of the {other} "
        f"{figure(of_lane[other])}; chance below 1e{math.ceil(math.log10(max(drift.chance, 1e-300)))}."
    )


def _sentence(result: RunResult) -> str:
    first = result.first_divergence
    steps = counted(result.steps, "step")
    if first is not None:
        return _sentence_of(first, result)
    if result.reference_errors:
        return _sentence_of_reference(result)
    if not num_judged(result):
        return f"No verdict: nothing was judged in {steps}, so nothing was shown to be right."
    if result.verdict == "identical":
        return f"No divergence in {steps}: the two places agree bit for bit."
    if result.twins is not None and result.twins.is_inconclusive:
        return f"No divergence found in {steps}, and yet more than chaos. {growth_sentence(result.twins)}"
    parts = [f"No divergence in {steps}: the two places differ by rounding only"]
    if result.first_bit_difference is not None:
        where = result.first_bit_difference.where
        parts.append(f"first bit difference at {moment_of(where)}, {name_of(where)}")
    largest = _largest_excess(result)
    if largest is not None and largest > 1:  # a tie, another algorithm, or both lanes alike
        parts[0] = f"No divergence in {steps}: the two places differ by rounding, and by what the notes name"
        parts.append(f"the largest error: {times_explained(largest)} by itself (--verbose has why)")
    elif largest is not None:
        parts.append(f"the largest error is {over_bound(largest)} of what rounding can explain")
    return "; ".join(parts) + "."


def _largest_excess(result: RunResult) -> float | None:
    """Of what was judged; None where nothing kept has a bound."""
    return max((o.excess for o in (*result.worst, *result.path) if o.bound is not None), default=None)


def _sentence_of_reference(result: RunResult) -> str:
    """Of lanes of which the reference is the one that is wrong."""
    worst = max(result.reference_errors, key=lambda known: float(known["excess"]))
    where = Where(**{key: value for key, value in worst.items() if key != "excess"})
    places = {lane.name: lane.place for lane in result.lanes}
    beyond = float(worst["excess"])
    return as_text(
        f"The reference is wrong: {subject_of(where)} at {moment_of(where)} on {places['reference']} "
        f"({times_explained(beyond)}), while {places['candidate']} is right there. "
        f"No divergence of the candidate in {counted(result.steps, 'step')}."
    )


def num_judged(result: RunResult) -> int:
    return result.judged.layer_outputs + result.judged.op_outputs


def _sentence_of(first: Divergence, result: RunResult) -> str:
    where = first.where
    place = next((lane.place for lane in result.lanes if lane.name == "candidate"), "the candidate")
    on = f" on {place}"
    if where.unit != "op":
        compiled = "run" if "eager" in place.split("/") else "compiled"
        on = f", {compiled} as one unit on {place},"
    wrong = "differs" if first.blame == "none" else "is wrong"
    meaning = explain_cause(first)
    cause = f"{first.cause}: {meaning}" if meaning else first.cause
    parts = [
        f"Divergence at {moment_of(where)}: {subject_of(where)}{on} {wrong} ({cause}; {times_explained(first.excess)})"
        f"{_innocence(first, result)}: {explain_blame(first.blame)}.",
        explain_cures(first.cured_by),
        first.fused.render() if first.fused is not None else "",
    ]
    return as_text(" ".join(part for part in parts if part))


def _innocence(first: Divergence, result: RunResult) -> str:
    """What the microscope found of the ops inside a unit that diverges: said only if it looked."""
    where, judged = first.where, result.judged
    if where.unit == "op" or where.step not in judged.microscope_steps or not judged.op_outputs:
        return ""
    inside = [o for o in result.microscope if where.unit == "step" or o.where.layer == where.layer]
    if any(o.verdict is Verdict.DIVERGENCE for o in inside):
        return ""
    unjudged = any(o.verdict is Verdict.UNJUDGED for o in inside)
    return f", while each of its ops{' that could be judged' if unjudged else ''} is right by itself"
