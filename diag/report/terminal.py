"""The report a person reads: the verdict in one sentence, then the path to the loss, then the details."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from diag.numerics.bounds import Bound
from diag.numerics.op_classes import ErrorClass
from diag.report import attribution, rewrites
from diag.report.curves import plot
from diag.report.growth import growth_facts, growth_legend, growth_sentence
from diag.report.sending import what_to_send
from diag.report.updates import error_line, sign_lines
from diag.report.wording import counted, figure
from diag.verdict.findings import Divergence, Observation, Verdict, Where
from diag.verdict.result import Amplifier, RunResult

MAX_PATH_ROWS = 25
MAX_LISTED = 10
NUM_LARGEST = 4  # rows of the path kept for their size, by error and by difference
NUM_AFTER_FOR_ONE_BEFORE = 4  # where it leads tells more than where it did not come from
MAX_EVIDENCE = 6
LONGEST_EVIDENCE = 60

# -- words: the causes and blames of docs/ARCHITECTURE.md, for a person ----------------------------

CAUSE_WORDS = {
    "rounding": "rounding alone",
    "algorithm:normwise": "right in norm but not element by element, as Winograd and FFT are",
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
    "none": "no part of the stack is to blame",
}
CURE_WORDS = {
    "eager": "running eagerly",
    "graph": "running as a graph",
    "xla": "compiling with XLA",
}
UNIT_WORDS = {
    ErrorClass.EXACT: "rms is the share of wrong elements",
    ErrorClass.COMPOSITE: "errors are absolute",
}


def explain_cause(divergence: Divergence) -> str:
    """The cause in plain words: what its evidence sums up as `summary`, or else what it means in general."""
    summary = divergence.evidence.get("summary")
    if isinstance(summary, str) and summary:
        return summary
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


def explain_region(divergence: Divergence) -> str:
    """Which ops are wrong together, and that to watch them hides it; empty where no such ops were found."""
    region, layers = divergence.evidence.get("region"), divergence.evidence.get("layers") or []
    if not region or "+" not in region:
        return ""
    of = f" of {' and '.join(map(str, layers))}" if len(layers) > 1 else ""
    away = divergence.evidence.get("vanishes_when_watched") or []
    hidden = f", and right when the output of {' or '.join(dict.fromkeys(away))} is watched" if away else ""
    return f"Wrong together: {region}{of}{hidden}."


def shortened(text: str, width: int) -> str:
    """Cut in the middle: the ends of an op's or a layer's name say most."""
    if len(text) <= width:
        return text
    kept = max(width - 3, 2)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


# -- names -----------------------------------------------------------------------------------------


def name_of(where: Where) -> str:
    """Short enough for a table; step and phase stand elsewhere."""
    output = f" [{where.output}]" if where.output else ""
    if where.unit != "op" and where.name:
        output = "" if where.name == "output" else f": {where.name}"
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


def moment_of(where: Where) -> str:
    return f"step {where.step}, {where.phase}"


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
    """The verdict, and what to do about it."""
    first = result.first_divergence
    steps = counted(result.steps, "step")
    if first is not None:
        return _sentence_of(first, result)
    if not num_judged(result):
        return f"No verdict: nothing was judged in {steps}, so nothing was shown to be right."
    if result.verdict == "identical":
        return f"No divergence in {steps}: the two places agree bit for bit."
    if result.twins is not None and result.twins.is_inconclusive:
        return f"No divergence found in {steps}, and yet more than chaos. {growth_sentence(result.twins)}"
    parts = [f"No divergence in {steps}: the lanes differ by rounding only"]
    if result.first_bit_difference is not None:
        where = result.first_bit_difference.where
        parts.append(f"first bit difference at {moment_of(where)}, {name_of(where)}")
    largest = max((o.excess for o in (*result.worst, *result.path) if o.bound is not None), default=None)
    if largest is not None:
        parts.append(f"largest error {figure(largest)} of what rounding explains")
    return "; ".join(parts) + "."


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
    beyond = f"excess {figure(first.excess)}" if math.isfinite(first.excess) else "no rounding does this"
    parts = [
        f"Divergence at {moment_of(where)}: {subject_of(where)}{on} {wrong} ({cause}; {beyond})"
        f"{_innocence(first, result)}: {explain_blame(first.blame)}.",
        explain_cures(first.cured_by),
        explain_region(first),
    ]
    return " ".join(part for part in parts if part)


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


# -- the report's sections, each a generator of what it prints -------------------------------------


def render(result: RunResult, console: Console, next_commands: Sequence[str] = ()) -> None:
    """Print the whole report.  `next_commands` are command lines worth trying."""
    sections = (
        _banner, _verdict, _rewrites, _attribution, _growth, _path, _also_divergent, _worst, _amplifiers, _updates,
        _firsts, _judged, _notes, _files, _sending,
    )  # fmt: skip
    for section in sections:
        _print(section(result, console.width), console)
    _print(_next(next_commands), console)


def _print(parts: Iterator[RenderableType], console: Console) -> None:
    for number, part in enumerate(parts):
        if number == 0:
            console.print()
        console.print(part, soft_wrap=isinstance(part, (_Unbroken, attribution.Code)))


class _Unbroken(Text):
    """A path or a command: to be copied whole, however wide the console."""


def _banner(result: RunResult, width: int) -> Iterator[RenderableType]:
    simulated = [f"{lane.name} {lane.place}" for lane in result.lanes if lane.is_simulated]
    said = [note for note in result.notes if _is_banner(note)]
    if simulated and not said:
        said = [f"SIMULATED: {' and '.join(simulated)} is no real device; a fault is planted in it"]
    for line in said:
        yield Text(line, style="bold reverse yellow")
    if not num_judged(result):
        yield Text("NOTHING WAS JUDGED: no output was held against float64 truth", style="bold reverse red")


def _is_banner(note: str) -> bool:
    return note.startswith("SIMULATED")


def _verdict(result: RunResult, width: int) -> Iterator[RenderableType]:
    bad = result.first_divergence is not None or not num_judged(result)
    yield Text(sentence(result), style="bold red" if bad else "bold green")
    yield Text()
    facts = [(lane.name, lane.place) for lane in result.lanes]
    facts += [(name, text) for name, text in (("model", result.model), ("data", result.data)) if text]
    facts += [("steps", f"{result.steps:,}"), *_losses(result)]
    if result.first_divergence is not None:
        facts += _evidence(result.first_divergence)
    yield _facts(facts)


def _evidence(divergence: Divergence) -> list[tuple[str, str]]:
    shown = [
        (key.replace("_", " "), figure(value) if isinstance(value, float) else str(value))
        for key, value in divergence.evidence.items()
        if key != "summary" and isinstance(value, (str, int, float, tuple, list))
    ]
    short = [f"{key} {value}" for key, value in shown if len(value) <= LONGEST_EVIDENCE]
    return [("evidence", "; ".join(short[:MAX_EVIDENCE]))] if short else []


def _losses(result: RunResult) -> list[tuple[str, str]]:
    """At the first divergence, or the beginning, and at the end."""
    start = result.first_step
    first = result.first_divergence.where.step if result.first_divergence else start
    texts = []
    for step in dict.fromkeys((first - start, result.steps - 1)):
        values = [(name, losses[step]) for name, losses in result.losses.items() if 0 <= step < len(losses)]
        if values:
            texts.append(f"step {start + step}: " + ", ".join(f"{name} {value:.7g}" for name, value in values))
    return [("loss", "\n".join(texts))] if texts else []


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(name, Text(text))
    return grid


def _table(title: str, names: Sequence[str], numbers: Sequence[str]) -> Table:
    table = Table(
        title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, show_edge=False,
        padding=(0, 1, 0, 0), pad_edge=False, header_style="dim",
    )  # fmt: skip
    for name in names:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, no_wrap=True, justify="right")
    return table


def _where_cell(where: Where, room: int, judged_by: str) -> Text:
    """Two lines: the unit, then when it was and by what it was judged."""
    cell = Text(shortened(name_of(where), room))
    return cell.append(f"\n  {moment_of(where)}{judged_by}", style="dim")


# -- what TensorFlow made of it --------------------------------------------------------------------


def _rewrites(result: RunResult, width: int) -> Iterator[RenderableType]:
    found = result.rewrites
    if found is None:
        return
    yield Text(f"What TensorFlow made of {', '.join(map(str, found.layers))} at {found.place}", style="bold")
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
    yield Text("Each lane on its own path: how far from the reference, all weights together", style="bold")
    lines = plot(twins, width)
    for line in lines:
        yield _Unbroken(line)
    if lines:
        yield Text(growth_legend(twins), style="dim")
    if not twins.is_inconclusive:  # that is the verdict's own sentence
        yield Text(growth_sentence(twins))
    yield _facts(growth_facts(twins))


# -- the path to the loss --------------------------------------------------------------------------


def _path(result: RunResult, width: int) -> Iterator[RenderableType]:
    path = result.path
    if not any(o.differs or _is_beyond(o) for o in path):
        return
    first = _index_of_first(result)
    diverges = result.first_divergence is not None
    title = "from the first divergence to the loss" if diverges else "how far the lanes are apart"
    table = _table(
        f"Step {path[0].where.step}, {title}",
        ("", "layer", "phase"),
        ("local error\nover bound", "propagated,\nnorm-wise", "propagated,\nmax ULP"),
    )
    kept = rows_to_keep(path, first)
    previous = -1
    for index in kept:
        _add_gap(table, index - previous - 1)
        _add_path_row(table, path[index], ">" if diverges and index == first else "", width - 54)
        previous = index
    _add_gap(table, len(path) - 1 - previous)
    yield table
    yield from _path_legend(path, diverges, len(path) - len(kept))


def rows_to_keep(path: Sequence[Observation], first: int) -> list[int]:
    """Which rows to show of a long path: the loss, the largest, and those around the first divergence."""
    rows = range(len(path))
    loss = max((i for i in rows if path[i].where.phase == "forward"), default=len(path) - 1)
    by_error = sorted(rows, key=lambda i: (not _is_beyond(path[i]), -path[i].excess))[:NUM_LARGEST]
    by_difference = sorted(rows, key=lambda i: -_normwise(path[i]))[:NUM_LARGEST]
    nearest = sorted(rows, key=lambda i: i - first if i >= first else NUM_AFTER_FOR_ONE_BEFORE * (first - i))
    wanted = dict.fromkeys([first, loss, *by_error, *by_difference, *nearest])
    return sorted(list(wanted)[:MAX_PATH_ROWS]) if path else []


def _is_beyond(observation: Observation) -> bool:
    return observation.verdict is Verdict.DIVERGENCE or observation.excess > 1


def _normwise(observation: Observation) -> float:
    error = observation.propagated.normwise_relative_error if observation.propagated else 0.0
    return math.inf if math.isnan(error) and observation.differs else 0.0 if math.isnan(error) else error


def _index_of_first(result: RunResult) -> int:
    """The row of the first divergence; for an op, of the layer around it; or else of what differs first."""
    path, first = result.path, result.first_divergence
    tests: list[Callable[[Observation], bool]] = [lambda o: o.differs]
    if first is not None:
        site = first.where
        tests = [
            lambda o: o.where.site == site.site and _is_beyond(o),
            lambda o: _is_beyond(o) and o.where.phase == site.phase and site.layer in (o.where.layer or "").split("+"),
            lambda o: o.where.site == site.site,
            lambda o: (o.where.layer, o.where.phase) == (site.layer, site.phase),
            lambda o: o.verdict is Verdict.DIVERGENCE,
            *tests,
        ]
    return next((i for test in tests for i, o in enumerate(path) if test(o)), 0)


def _add_gap(table: Table, num_rows: int) -> None:
    if num_rows:
        table.add_row("", f"... {counted(num_rows, 'row')}", "...", style="dim")


def _add_path_row(table: Table, observation: Observation, mark: str, room: int) -> None:
    where, seen = observation.where, observation.propagated
    is_beyond = _is_beyond(observation)
    table.add_row(
        mark + ("!" if is_beyond else ""),
        shortened(name_of(where), room),
        where.phase,
        _local_error(observation),
        figure(seen.normwise_relative_error) if seen else "-",
        figure(seen.max) if seen else "-",
        style="bold red" if is_beyond else "",
    )


def _local_error(observation: Observation) -> str:
    if observation.bound is not None:
        return figure(observation.bound.excess)
    return "same bits" if observation.verdict is Verdict.IDENTICAL else "not judged"


def _path_legend(path: Sequence[Observation], diverges: bool, num_left_out: int) -> Iterator[Text]:
    legend = ["> first divergence"] if diverges else []
    if any(_is_beyond(o) for o in path):
        legend.append("! more than rounding explains")
    if num_left_out:
        legend.append(f"{counted(num_left_out, 'row')} left out")
    if legend:
        yield Text("   ".join(legend), style="dim")


# -- the other divergences, the worst units --------------------------------------------------------


def _also_divergent(result: RunResult, width: int) -> Iterator[RenderableType]:
    first = result.first_divergence
    others = [d for d in result.divergences if first is None or d.where != first.where]
    if not others:
        return
    room = width - 48
    table = _table("Diverging too", ("unit", "cause", "blame"), ("excess",))
    for other in others[:MAX_LISTED]:
        table.add_row(
            _where_cell(other.where, room, ""), shortened(other.cause, 20), other.blame, figure(other.excess)
        )
    yield table
    if len(others) > MAX_LISTED:
        yield Text(f"... and {len(others) - MAX_LISTED:,} more, in report.json", style="dim")


def _worst(result: RunResult, width: int) -> Iterator[RenderableType]:
    worst = [(o, o.bound) for o in result.worst if o.bound is not None and o.bound.excess != 0][:MAX_LISTED]
    if not worst:
        return
    letters = dict(zip(dict.fromkeys(_rule(bound) for _, bound in worst), "abcdefghij", strict=False))
    is_nearer_known = any(_nearer_truth(observation) for observation, _ in worst)
    numbers = ("excess", "rms", "max", "nearer truth")
    table = _table("Largest errors over their bounds", ("unit",), numbers if is_nearer_known else numbers[:3])
    for observation, bound in worst:
        judged_by = f"; {bound.error_class.value} ({letters[_rule(bound)]})"
        cells = [*map(figure, (bound.excess, bound.rms, bound.max)), _nearer_truth(observation) or "-"]
        table.add_row(
            _where_cell(observation.where, width - 44, judged_by),
            *cells[: 4 if is_nearer_known else 3],
            style="" if bound.is_explained else "bold red",
        )
    yield table
    yield _facts([(f"({letter})", rule) for rule, letter in letters.items()])


def _rule(bound: Bound) -> str:
    """The rule, and the unit of its errors where the rule does not name it."""
    unit = UNIT_WORDS.get(bound.error_class)
    return f"{bound.rule}; {unit}" if unit else bound.rule


def _nearer_truth(observation: Observation) -> str:
    """Which lane's error is smaller in norm; empty where one is not known."""
    candidate, reference = observation.local, observation.reference_local
    if candidate is None or reference is None:
        return ""
    theirs = (candidate.classes.num_mismatched, candidate.normwise_relative_error)
    ours = (reference.classes.num_mismatched, reference.normwise_relative_error)
    if math.isnan(theirs[1]) or math.isnan(ours[1]):
        return ""
    return "both alike" if theirs == ours else "candidate" if theirs < ours else "reference"


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
        yield _facts(facts)


def _bit_difference(observation: Observation) -> str:
    where, seen = observation.where, observation.propagated
    text = f"{moment_of(where)}, {name_of(where)}"
    if seen is None:
        return text
    text += f": {seen.num_unequal:,} of {counted(seen.size, 'element')} differ"
    if not math.isnan(seen.max):
        text += f", by at most {figure(seen.max)} ULP"
    if seen.worst_index is not None and seen.worst_values is not None:
        reference, candidate = seen.worst_values
        text += f"; worst at {list(seen.worst_index)}: reference {reference:.9g}, candidate {candidate:.9g}"
    return text


def _judged(result: RunResult, width: int) -> Iterator[RenderableType]:
    judged = result.judged
    outputs = f"{counted(judged.layer_outputs, 'layer output')}, {counted(judged.op_outputs, 'op output')}"
    facts = [("judged", outputs), ("microscope", _steps_listed(judged.microscope_steps))]
    if judged.unjudged or judged.unjudged_ops:
        of = f" of {', '.join(judged.unjudged_ops)}" if judged.unjudged_ops else ""
        unjudged = f"{counted(judged.unjudged, 'output')}{of}: no truth to hold them against"
        facts.append(("NOT judged", unjudged))
    if judged.fallback_ops:
        ops = ", ".join(judged.fallback_ops)
        fallback = f"{ops}: no kernel on the candidate, so their agreement shows nothing"
        facts.append(("ran on the CPU", fallback))
    if judged.reference_less_accurate is not None and judged.reference_less_accurate["num_outputs"]:
        facts.append(("reference", _less_accurate(judged.reference_less_accurate)))
    yield _facts(facts)


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
    notes = [note for note in result.notes if not _is_banner(note)]
    if notes:
        yield _facts([("note", note) for note in notes])


def _files(result: RunResult, width: int) -> Iterator[RenderableType]:
    if result.files:
        yield Text("Written", style="bold")
    for name, path in result.files.items():
        yield _Unbroken(f"  {name:<6} {path}")


def _sending(result: RunResult, width: int) -> Iterator[RenderableType]:
    lines = what_to_send(result)
    if lines:
        yield Text("What to send", style="bold")
    for line in lines:
        yield Text(f"  {line}")


def _next(commands: Sequence[str]) -> Iterator[RenderableType]:
    if commands:
        yield Text("Next", style="bold")
    for command in commands:
        yield _Unbroken(f"  {command}")
