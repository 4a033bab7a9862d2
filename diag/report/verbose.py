"""The whole report in print, for `--verbose`: what the short one leaves out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.text import Text

from diag.common.modes import FIGURE
from diag.common.terminal import Stripped, Unbroken, facts_table
from diag.common.text import as_text
from diag.common.wording import counted, figure, shortened
from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from diag.report import attribution, rewrites
from diag.report.curves import plot
from diag.report.growth import growth_facts, growth_legend, growth_sentence
from diag.report.layout import table_of
from diag.report.path import path_of
from diag.report.sending import what_to_send
from diag.report.updates import error_line, sign_lines
from diag.report.weights import weights_table_in_full
from diag.report.words import UNRELATED, chance_text, moment_of, name_of, over_bound, ulp_text
from diag.verdict.findings import NOBODY, Divergence, Observation
from diag.verdict.result import NOTE, UNFINISHED, Amplifier, RunResult
from diag.verdict.significance import chance_of_rounding

MAX_LISTED = 10
MAX_EVIDENCE = 6
LONGEST_EVIDENCE = 60
UNIT_WORDS = {ErrorClass.EXACT: "rms is the share of wrong elements", ErrorClass.COMPOSITE: "errors are absolute"}

# -- the report's sections, each a generator of what it prints -------------------------------------


def details(result: RunResult, console: Console) -> None:
    """Print all that the short report leaves out or sums up."""
    sections = (
        _facts, weights_table_in_full, _rewrites, _attribution, _growth, path_of, _also_divergent, _worst, _amplifiers,
        _updates, _firsts, _judged, _notes,
    )  # fmt: skip
    for section in sections:
        print_section(section(result, console.width), console)


def print_section(parts: Iterator[RenderableType], console: Console) -> None:
    for number, part in enumerate(parts):
        if number == 0:
            console.print()
        if isinstance(part, (Unbroken, attribution.Code)):
            console.print(part, soft_wrap=True)
        else:
            console.print(Stripped(part), end="")


def _facts(result: RunResult, width: int) -> Iterator[RenderableType]:
    facts = [("steps", f"{result.steps:,}"), *_losses(result)]
    if result.first_fault is not None:
        facts += _evidence(result.first_fault)
    if (chance := chance_of_rounding(result)) is not None:
        name = "least likely error" if result.first_divergence is None else "chance of rounding alone"
        facts.append((name, chance_text(chance)))
    yield facts_table(facts)


def _evidence(divergence: Divergence) -> list[tuple[str, str]]:
    shown = [
        (key.replace("_", " "), _plainly(value))
        for key, value in divergence.evidence.items()
        if key != "summary" and isinstance(value, (str, int, float, tuple, list))
    ]
    short = [f"{key} {value}" for key, value in shown if len(value) <= LONGEST_EVIDENCE]
    return [("evidence", "; ".join(short[:MAX_EVIDENCE]))] if short else []


def _plainly(value: Any) -> str:
    """A fact as a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_plainly, value))
    return figure(value) if isinstance(value, float) else as_text(value)


def _losses(result: RunResult) -> list[tuple[str, str]]:
    """At the first divergence, or the beginning, and at the end."""
    numbers = result.step_numbers
    first = result.first_divergence.where.step if result.first_divergence else numbers[0]
    texts = []
    for number in dict.fromkeys((first, numbers[-1])):
        row = numbers.index(number) if number in numbers else len(numbers)
        values = [(name, losses[row]) for name, losses in result.losses.items() if row < len(losses)]
        if values:
            texts.append(f"step {number}: " + ", ".join(f"{name} {value:.7g}" for name, value in values))
    return [(FIGURE[result.mode], "\n".join(texts))] if texts else []


# -- what TensorFlow made of it --------------------------------------------------------------------


def _rewrites(result: RunResult, width: int) -> Iterator[RenderableType]:
    found = result.rewrites
    if found is None:
        return
    rewritten = ", ".join(layer for layer in found.layers if layer) or "ops of no layer"
    yield Text(f"What TensorFlow made of {rewritten} at {found.place}", style="bold")
    for line in rewrites.near(found):
        yield Text(f"  {line}")


# -- what cures it ---------------------------------------------------------------------------------


def _attribution(result: RunResult, width: int) -> Iterator[RenderableType]:
    if result.attribution is not None:
        yield from attribution.sections(result.attribution)


# -- each lane on its own path, against the twins --------------------------------------------------


def _growth(result: RunResult, width: int) -> Iterator[RenderableType]:
    twins = result.twins
    if twins is None:
        return
    yield Text("Each place on its own path: how far from the reference, all weights together", style="bold")
    lines = plot(twins, width)
    for line in lines:
        yield Unbroken(line)
    if lines:
        yield Text(growth_legend(twins), style="dim")
    if not twins.is_inconclusive:  # that is the verdict's own sentence
        yield Text(growth_sentence(twins))
    yield facts_table(growth_facts(twins))


# -- the other divergences, the worst units --------------------------------------------------------


def _also_divergent(result: RunResult, width: int) -> Iterator[RenderableType]:
    first = result.first_fault
    others = [d for d in result.divergences if first is not None and d.where != first.where and d.blame != NOBODY]
    if not others:
        return
    table = table_of("Diverging too", ("unit", "when", "cause", "blame"), ("error / bound",))
    for other in others[:MAX_LISTED]:
        table.add_row(
            Text(shortened(name_of(other.where), max(width - 74, 12))),
            moment_of(other.where),
            as_text(shortened(other.cause, 20)),
            as_text(other.blame),
            over_bound(other.excess),
        )
    yield table
    if len(others) > MAX_LISTED:
        yield Text(f"... and {len(others) - MAX_LISTED:,} more, in report.json", style="dim")


def _worst(result: RunResult, width: int) -> Iterator[RenderableType]:
    worst = _one_a_unit(result.worst)[:MAX_LISTED]
    if not worst:
        return
    columns = ("unit", "when", "held as")
    table = table_of("Largest errors over their bounds", columns, ("error / bound", "nearer truth"))
    for observation, bound in worst:
        table.add_row(
            Text(shortened(name_of(observation.where), max(width - 68, 12))),
            moment_of(observation.where),
            bound.error_class.value,
            over_bound(bound.excess),
            _nearer_truth(observation) or "-",
            style="" if bound.is_explained else "bold red",
        )
    yield table
    yield facts_table(dict.fromkeys((bound.error_class.value, _rule(bound)) for _, bound in worst))


def _one_a_unit(observations: Sequence[Observation]) -> list[tuple[Observation, Bound]]:
    """The largest error of each output of a unit over all steps, with its bound."""
    found: dict[tuple[Any, ...], tuple[Observation, Bound]] = {}
    for observation in observations:
        if observation.bound is not None and observation.bound.excess != 0:
            key = (*observation.where.location, observation.where.name)
            found.setdefault(key, (observation, observation.bound))  # they come by size
    return list(found.values())


def _rule(bound: Bound) -> str:
    """The rule, and the unit of its errors where the rule does not name it."""
    unit = UNIT_WORDS.get(bound.error_class)
    return f"{bound.rule}; {unit}" if unit else bound.rule


def _nearer_truth(observation: Observation) -> str:
    """Which lane's error is smaller in norm; empty where one is not known."""
    candidate, reference = observation.local, observation.reference_local
    if candidate is None or reference is None:
        return ""
    of_candidate = (candidate.classes.num_mismatched, candidate.normwise_relative_error)
    of_reference = (reference.classes.num_mismatched, reference.normwise_relative_error)
    if math.isnan(of_candidate[1]) or math.isnan(of_reference[1]):
        return ""
    return "both alike" if of_candidate == of_reference else "candidate" if of_candidate < of_reference else "reference"


# -- what Adam made of it --------------------------------------------------------------------------


def _updates(result: RunResult, width: int) -> Iterator[RenderableType]:
    if result.updates:
        yield Text("Adam's updates, element by element, against float64 truth", style="bold")
        for line in (*sign_lines(result.updates), error_line(result.updates)):
            yield Text(line)


# -- details ---------------------------------------------------------------------------------------


def _amplifiers(result: RunResult, width: int) -> Iterator[RenderableType]:
    if not result.amplifiers:
        return
    yield Text("Amplifiers: right by themselves, but the difference grows in them", style="bold")
    for amplifier in result.amplifiers[:MAX_LISTED]:
        yield Text(_amplifier_line(amplifier))
    if len(result.amplifiers) > MAX_LISTED:
        yield Text(f"... and {len(result.amplifiers) - MAX_LISTED:,} more, in report.json", style="dim")


def _amplifier_line(amplifier: Amplifier) -> str:
    where = amplifier.observation.where
    grown = f"{figure(amplifier.inherited)} became {figure(amplifier.produced)}"
    times = f", {figure(amplifier.factor)} times as much" if amplifier.factor else ""
    flipped = f"; {amplifier.flipped} flipped" if amplifier.flipped else ""
    return f"{name_of(where)}, {moment_of(where)}: {grown}{times}{flipped}"


def _firsts(result: RunResult, width: int) -> Iterator[RenderableType]:
    facts = []
    if result.first_bit_difference is not None:
        facts.append(("first bit difference", _bit_difference(result.first_bit_difference)))
    if result.first_nonfinite is not None:
        where = result.first_nonfinite.where
        facts.append(("first non-finite", f"{moment_of(where)}, {name_of(where)}"))
    if facts:
        yield facts_table(facts)


def _bit_difference(observation: Observation) -> str:
    where, seen = observation.where, observation.propagated
    text = f"{moment_of(where)}, {name_of(where)}"
    if seen is None:
        return text
    text += f": {seen.num_unequal:,} of {counted(seen.size, 'element')} differ"
    if not math.isnan(seen.max):
        text += f", {_at_most(seen.max)}"
    if seen.worst_index is not None and seen.worst_values is not None:
        reference, candidate = seen.worst_values
        index = ", ".join(map(str, seen.worst_index))
        text += f"; worst at [{index}]: reference {reference:.9g}, candidate {candidate:.9g}"
    return text


def _at_most(distance: float) -> str:
    return "some of them unrelated" if distance > UNRELATED else f"by at most {ulp_text(distance)}"


def _judged(result: RunResult, width: int) -> Iterator[RenderableType]:
    judged = result.judged
    outputs = f"{counted(judged.layer_outputs, 'layer output')}, {counted(judged.op_outputs, 'op output')}"
    facts = [("judged", outputs), ("op by op", _steps_listed(judged.microscope_steps))]
    facts += cautions(result)
    if judged.reference_less_accurate is not None and judged.reference_less_accurate["num_outputs"]:
        facts.append(("reference", _less_accurate(judged.reference_less_accurate)))
    yield facts_table(facts)


def cautions(result: RunResult) -> list[tuple[str, str]]:
    """What the run says nothing about, so that nobody takes it for agreement."""
    judged = result.judged
    facts = [("NOT whole", note.text) for note in result.notes if note.kind == UNFINISHED]
    if judged.unjudged or judged.unjudged_ops:
        of = f" of {', '.join(judged.unjudged_ops)}" if judged.unjudged_ops else ""
        unjudged = f"{counted(judged.unjudged, 'output')}{of}: no truth to hold them against"
        facts.append(("NOT judged", unjudged))
    if judged.fallback_ops:
        ops = ", ".join(judged.fallback_ops)
        fallback = f"{ops}: no kernel on the candidate, so their agreement shows nothing"
        facts.append(("ran on the CPU", fallback))
    return facts


def _less_accurate(counts: dict[str, Any]) -> str:
    """How often the reference is further from truth than the candidate, and where most."""
    text = (
        f"less accurate than the candidate in {counts['num_outputs']:,} of "
        f"{counted(counts['of_differing'], 'op output')} that differ"
    )
    worst = counts["worst"]
    if worst is not None:
        of = f" of {worst['layer']}" if worst["layer"] else ""
        share = figure(float(worst["excess"]))
        text += f"; most in op {worst['op_index']} {worst['op_type']}{of}: {share} of its bound"
    return text


def _steps_listed(steps: Sequence[int]) -> str:
    if not steps:
        return "not used"
    more = f" and {len(steps) - MAX_LISTED:,} more" if len(steps) > MAX_LISTED else ""
    return f"step{'s' if len(steps) > 1 else ''} {', '.join(map(str, steps[:MAX_LISTED]))}{more}"


def _notes(result: RunResult, width: int) -> Iterator[RenderableType]:
    if notes := notes_of(result):
        yield facts_table([("note", as_text(note)) for note in notes])


def notes_of(result: RunResult) -> list[str]:
    return [note.text for note in result.notes if note.kind == NOTE]


def sending(result: RunResult, width: int) -> Iterator[RenderableType]:
    lines = what_to_send(result)
    if lines:
        yield Text("What to send", style="bold")
    for line in lines:
        yield Text(f"  {line}")
