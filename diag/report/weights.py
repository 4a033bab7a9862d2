"""Two models of one architecture, in words: which weights differ and how, and what that does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import RenderableType
from rich.text import Text

from diag.common.terminal import facts_table
from diag.common.text import as_text
from diag.common.wording import counted, figure, percent, shortened
from diag.report.layout import table_of
from diag.verdict.result import RunResult
from diag.verdict.weights import LayerDifference, WeightComparison, WeightDifference

if TYPE_CHECKING:
    from diag.report.contract import WeightedLayerRecord, WeightRecord, WeightsRecord

MOST_ROWS, MOST_LISTED, MOST_WAYS = 7, 40, 4


def report(known: WeightComparison) -> WeightsRecord:
    """As report.json has it."""
    predictions = known.predictions
    return {
        "model": known.model,
        "sentence": weights_sentence(known),
        "num_compared": known.num_compared,
        "unjudged": list(known.unjudged),
        "differing": [_weight(weight) for weight in known.differing],
        "layers": list(map(_layer, known.layers)),
        "predictions": {
            "difference": predictions.relative,
            "largest": predictions.largest,
            "num_classified": predictions.num_classified,
            "num_other_class": predictions.num_other_class,
        },
    }


def _weight(weight: WeightDifference) -> WeightRecord:
    return {
        "variable": weight.variable,
        "layer": weight.layer,
        "cause": weight.cause.name,
        "evidence": weight.cause.evidence,
        "difference": weight.difference,
        "num_differing": weight.num_differing,
        "size": weight.size,
    }


def _layer(layer: LayerDifference) -> WeightedLayerRecord:
    return {
        "layer": layer.layer,
        "own": layer.own,
        "excess": layer.excess,
        "apart": layer.apart,
        "inherited": layer.inherited,
        "amplifies": layer.amplifies,
    }


def weights_sentence(known: WeightComparison) -> str:
    """Whether it is the same model; if not which weights differ and how, where it shows, and in what predictions."""
    if not known.differing:
        return as_text(
            f"All {counted(known.num_compared, 'weight')} of {known.model} are the reference's, bit for bit."
        )
    wrong = known.wrong_layers
    verdict = "Not the same model" if wrong or known.unjudged else "The same model but for rounding"
    number, verb = len(known.differing), "differ" if len(known.differing) > 1 else "differs"
    parts = [f"{verdict}: {number:,} of {counted(known.num_compared, 'weight')} {verb}, {_ways(known.differing)}."]
    if wrong:
        first = f"first {wrong[0].layer} ({figure(wrong[0].excess)} times that)"
        layers = counted(len(wrong), "layer")
        parts.append(f"On the reference's inputs they bring {layers} out of what rounding explains, {first}.")
    if known.unjudged:
        some = ", ".join(known.unjudged[:MOST_WAYS]) + (", ..." if len(known.unjudged) > MOST_WAYS else "")
        parts.append(f"The layers that read {some} are no units of their own, so what these do there was not judged.")
    grows = next((layer for layer in known.layers if layer.amplifies), None)
    if grows is not None:
        parts.append(
            f"In {grows.layer} outputs are apart by {_apart(grows.apart)}, far more than weights and inputs are."
        )
    return as_text(" ".join([*parts, _predictions(known)]))


def _ways(differing: Sequence[WeightDifference]) -> str:
    """The most frequent way first, each with its first weight."""
    counts = Counter(map(way_of, differing))
    if len(counts) == 1 and len(differing) > 1:
        largest = max(differing, key=lambda weight: weight.difference)
        of_largest = f"at most {_apart(largest.difference)} in norm, {largest.variable}"
        return f"each of them {way_of(largest)} ({of_largest})"
    said = []
    for way, number in counts.most_common()[:MOST_WAYS]:
        more = f" and {number - 1:,} more" if number > 1 else ""
        said.append(f"{_first(differing, way)}{more} ({way})")
    left = sum(number for _, number in counts.most_common()[MOST_WAYS:])
    return ", ".join([*said, *([f"{left:,} in other ways"] if left else [])])


def _apart(difference: float) -> str:
    """Relative, in norm."""
    return percent(difference) if math.isfinite(difference) else "inf"


def _first(differing: Sequence[WeightDifference], way: str) -> str:
    return next(weight.variable for weight in differing if way_of(weight) == way)


def way_of(weight: WeightDifference) -> str:
    """How the candidate's came to be."""
    where = weight.cause.evidence.get("where")
    return weight.cause.summary or (f"{weight.cause.name}, {where}" if where else weight.cause.name)


def _predictions(known: WeightComparison) -> str:
    found = known.predictions
    apart = f"Predictions differ by {_apart(found.relative)} in norm, at most by {figure(found.largest)}"
    if not found.num_classified:
        return f"{apart}."
    return f"{apart}; {found.num_other_class:,} of {found.num_classified:,} have another class on top."


def rows_of(known: WeightComparison) -> list[tuple[str, str, str, str, str, str]]:
    """Of each weight that differs: its name, the cause, how it came to be, how far it is from the reference's; and of
    the layer that reads it the error over its bound, and how far apart its outputs are.
    """
    layers = {layer.layer: layer for layer in known.layers}
    rows = []
    for weight in known.differing:
        layer = layers.get(weight.layer or "")
        of_layer = ("-", "-") if layer is None else (figure(layer.excess), _apart(layer.apart))
        names = as_text(weight.variable), as_text(weight.cause.name), as_text(way_of(weight))
        rows.append((*names, _apart(weight.difference), *of_layer))
    return rows


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
    rows = [] if result.weights is None else rows_of(result.weights)
    if rows:
        yield from weights_table(result, width, MOST_LISTED)
        yield facts_table((name, way) for name, _, way, *_ in rows[:MOST_LISTED])
