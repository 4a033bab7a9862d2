"""Two models of one architecture, in words: which weights differ and how, and what that does."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import as_text
from diag.common.wording import counted, figure, first_few, percent, shortened
from diag.report.layout import table_of
from diag.verdict.result import RunResult
from diag.verdict.weights import PredictionDifference, WeightComparison, WeightDifference

if TYPE_CHECKING:
    from diag.report.contract import WeightsRecord

MOST_ROWS, MOST_LISTED, MOST_WAYS = 7, 40, 4


def report(known: WeightComparison) -> WeightsRecord:
    """As report.json has it."""
    predictions = asdict(known.predictions) | {"difference": known.predictions.relative}
    del predictions["squares"], predictions["reference_squares"]
    return cast("WeightsRecord", {
        **asdict(known),
        "sentence": weights_sentence(known),
        "unjudged": list(known.unjudged),
        "differing": [
            {**asdict(weight), "cause": weight.cause.name, "evidence": weight.cause.evidence}
            for weight in known.differing
        ],
        "layers": [{**asdict(layer), "amplifies": layer.amplifies} for layer in known.layers],
        "predictions": predictions,
    })  # fmt: skip


def weights_sentence(known: WeightComparison) -> str:
    """Whether it is the same model; if not which weights differ and how, where it shows, and in what predictions."""
    if not known.differing:
        return as_text(
            f"All {counted(known.num_compared, 'weight')} of {known.model} are the reference's, bit for bit."
        )
    is_same, number = not known.wrong_layers and not known.unjudged, len(known.differing)
    verdict = "The same model but for rounding" if is_same else "Not the same model"
    of_all = f"{number:,} of {counted(known.num_compared, 'weight')} {'differs' if number == 1 else 'differ'}"
    parts = [f"{verdict}: {of_all}, {_ways(known.differing)}.", *_layers(known), _predictions(known.predictions)]
    return as_text(" ".join(parts))


def _ways(differing: Sequence[WeightDifference]) -> str:
    """The most frequent way first, each with its first weight."""
    by_way: dict[str, list[WeightDifference]] = {}
    for weight in differing:
        by_way.setdefault(way_of(weight), []).append(weight)
    if len(by_way) == 1 and len(differing) > 1:
        largest = max(differing, key=lambda weight: weight.difference)
        return f"each of them {way_of(largest)} (at most {_apart(largest.difference)} in norm, {largest.variable})"
    ways = sorted(by_way.items(), key=lambda item: -len(item[1]))
    said = [
        f"{weights[0].variable}{f' and {len(weights) - 1:,} more' if len(weights) > 1 else ''} ({way})"
        for way, weights in ways[:MOST_WAYS]
    ]
    left = sum(len(weights) for _, weights in ways[MOST_WAYS:])
    return ", ".join([*said, *([f"{left:,} in other ways"] if left else [])])


def _layers(known: WeightComparison) -> Iterator[str]:
    if wrong := known.wrong_layers:
        first = f"first {wrong[0].layer} ({figure(wrong[0].excess)} times that)"
        layers = counted(len(wrong), "layer")
        yield f"On the reference's inputs they bring {layers} out of what rounding explains, {first}."
    if known.unjudged:
        some = first_few(known.unjudged, MOST_WAYS)
        yield f"The layers that read {some} are no units of their own, so what these do there was not judged."
    if grows := next((layer for layer in known.layers if layer.amplifies), None):
        yield f"In {grows.layer} outputs are apart by {_apart(grows.apart)}, far more than weights and inputs are."


def _predictions(found: PredictionDifference) -> str:
    apart = f"Predictions differ by {_apart(found.relative)} in norm, at most by {figure(found.largest)}"
    if not found.num_classified:
        return f"{apart}."
    return f"{apart}; {found.num_other_class:,} of {found.num_classified:,} have another class on top."


def _apart(difference: float) -> str:
    """Relative, in norm."""
    return percent(difference) if math.isfinite(difference) else "inf"


def way_of(weight: WeightDifference) -> str:
    """How the candidate's came to be."""
    cause, where = weight.cause, weight.cause.evidence.get("where")
    return cause.summary or (f"{cause.name}, {where}" if where else cause.name)


def rows_of(known: WeightComparison) -> list[tuple[str, str, str, str, str, str]]:
    """Of each weight that differs: its name, the cause, how it came to be, how far it is from the reference's; and of
    the layer that reads it the error over its bound, and how far apart its outputs are.
    """
    layers = {layer.layer: (figure(layer.excess), _apart(layer.apart)) for layer in known.layers}
    return [
        (
            *(as_text(weight.variable), as_text(weight.cause.name), as_text(way_of(weight))),
            *(_apart(weight.difference), *layers.get(weight.layer or "", ("-", "-"))),
        )
        for weight in known.differing
    ]


def weights_table(result: RunResult, width: int, most: int = MOST_ROWS) -> Iterator[RenderableType]:
    """Which weights differ, and what the layer that reads them makes of it."""
    rows = [] if result.weights is None else rows_of(result.weights)
    if not rows:
        return
    table = table_of("Weights that differ", ("weight", "cause"), ("in norm", "layer: error / bound", "layer: apart"))
    for name, cause, _, *numbers in rows[:most]:
        table.add_row(shortened(name, max(width - 62, 16)), cause, *numbers)
    yield table
    if len(rows) > most:
        yield Text(f"... and {len(rows) - most:,} more, in report.json", style="dim")


def weights_table_in_full(result: RunResult, width: int) -> Iterator[RenderableType]:
    """With how each came to be."""
    if result.weights is not None and result.weights.differing:
        yield from weights_table(result, width, MOST_LISTED)
        yield facts_table((name, way) for name, _, way, *_ in rows_of(result.weights)[:MOST_LISTED])
