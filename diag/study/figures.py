"""The figures of a study, as the experiment that it repeats had them: one row a place, one colour a dtype policy."""

from __future__ import annotations

from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diag.common.files import replacing
from diag.study.findings import JUDGED, StudyFindings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WITHOUT_MATPLOTLIB = "no figures, which need matplotlib: pip install 'tf-lockstep[study]'"
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")  # Okabe and Ito: told apart by all eyes
BAND = "#bbbbbb"
DOTS_PER_INCH = 110


def figures_of(findings: StudyFindings) -> dict[str, Figure]:
    """Each figure by the name of its file; raises ImportError without matplotlib."""
    return {"curves": curves(findings), "policies": policies(findings), "best": best(findings)}


def write_figures(folder: Path, figures: dict[str, Figure]) -> None:
    """NAME.png and NAME.svg in the folder, each whole or not at all; alike from one time to the next."""
    import matplotlib

    for name, figure in figures.items():
        for ending in ("png", "svg"):
            metadata = {"Date": None} if ending == "svg" else None
            with (
                matplotlib.rc_context({"svg.hashsalt": name}),
                replacing(folder / f"{name}.{ending}") as unfinished,
                unfinished.open("wb") as file,
            ):
                figure.savefig(file, format=ending, dpi=DOTS_PER_INCH, metadata=metadata)


def curves(findings: StudyFindings) -> Figure:
    """Accuracy and loss by epoch, for training (dashed) and validation, all policies: the mean over seeds."""
    plan = findings.plan
    measures = ("accuracy", "loss") if findings.shown.endswith("accuracy") else ("loss",)
    title = f"{' and '.join(measures).capitalize()} by place: mean over seeds (line), and all of them (shade)"
    figure, axes = _grid(findings, len(measures), title)
    for row, place in zip(axes, plan.places, strict=True):
        for axis, measure in zip(row, measures, strict=True):
            for colour, policy in zip(cycle(COLOURS), _policies(findings, place), strict=False):
                for name, style in ((f"validation_{measure}", "-"), (measure, "--")):
                    values = findings.array(place, policy, name)
                    _curve(axis, values, colour, style, policy if style == "-" else None, style == "-")
            _label(axis, f"{place}: {measure}", measure)
    handles, labels = max((row[0].get_legend_handles_labels() for row in axes), key=lambda each: len(each[1]))
    title = "solid: validation, dashed: training"
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8, title=title, title_fontsize=8)
    _alike(axes)
    return figure


def policies(findings: StudyFindings) -> Figure:
    """The measure of each policy by itself: every seed, the twins, and the band of what chance does."""
    plan, measure = findings.plan, JUDGED[findings.shown]
    explained = "each seed (line), the reference's twins (dots), what chance does (grey)"
    title = f"{measure.capitalize()} by dtype policy: {explained}"
    figure, axes = _grid(findings, len(plan.policies), title)
    left = {(each.place, each.policy): each for each in findings.departures}
    for row, place in zip(axes, plan.places, strict=True):
        for axis, policy, colour in zip(row, plan.policies, cycle(COLOURS), strict=False):
            _seeds(axis, findings, place, policy, colour)
            if (departure := left.get((place, policy))) is not None:
                axis.axvline(departure.epoch, color="black", linewidth=1)
                text = f" epoch {departure.epoch}: {JUDGED[departure.measure]} leaves "
                side = "left" if departure.epoch <= plan.epochs / 2 else "right"
                axis.text(departure.epoch, 0.02, text, fontsize=7, ha=side, transform=axis.get_xaxis_transform())
            _label(axis, f"{place}: {policy}", measure)
    _alike(axes)
    return figure


def _seeds(axis: Axes, findings: StudyFindings, place: str, policy: str, colour: str) -> None:
    """Every run of a place in a policy, over the band of the reference."""
    measure, plan = findings.shown, findings.plan
    epochs, band = np.arange(1, plan.epochs + 1), findings.band(policy, measure)
    if band is not None:
        most = 1 if measure.endswith("accuracy") else None
        axis.fill_between(
            epochs, np.clip(band.low, 0, most), np.clip(band.high, 0, most), color=BAND, alpha=0.5, linewidth=0
        )
    for curves in findings.curves:
        if (curves.run.place, curves.run.policy) == (place, policy):
            style = {"color": "black", "linewidth": 1, "linestyle": ":"} if curves.run.twin else {"color": colour}
            axis.plot(epochs, curves.of[measure], **style)


def best(findings: StudyFindings) -> Figure:
    """The best of the measure and seconds an epoch by policy: the mean of the seeds as a bar, each seed as a dot."""
    measure = f"best {JUDGED[findings.shown]}"
    figure, axes = _grid(findings, 2, f"{measure.capitalize()}, and seconds an epoch, by dtype policy")
    for row, place in zip(axes, findings.plan.places, strict=True):
        shown = [each for each in findings.summaries if each.place == place]
        for position, (each, colour) in enumerate(zip(shown, cycle(COLOURS), strict=False)):
            row[0].bar(position, np.nanmean(each.best), color=colour, alpha=0.6)
            row[0].plot([position] * len(each.best), each.best, "k.", markersize=4)
            row[1].bar(position, each.seconds, color=colour, alpha=0.6)
        for axis, what in zip(row, (measure, "seconds an epoch (median)"), strict=True):
            axis.set_xticks(range(len(shown)), [each.policy for each in shown], fontsize=8)
            axis.set_title(f"{place}: {what}", fontsize=8)
            axis.set_ylim(0)
    for column in axes.T:
        top = max(axis.get_ylim()[1] for axis in column)
        for axis in column:
            axis.set_ylim(0, top)
    return figure


def _policies(findings: StudyFindings, place: str) -> list[str]:
    """Those that a place was trained in, the study's own first."""
    return [each.policy for each in findings.summaries if each.place == place]


def _grid(findings: StudyFindings, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    """A figure with one row of axes a place, (places, columns)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = len(findings.plan.places)
    figure = Figure(figsize=(max(7.8, 3.6 * columns), 1 + 2.7 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9, wrap=True)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _curve(axis: Axes, values: np.ndarray, colour: str, style: str, label: str | None, is_shaded: bool) -> None:
    """The mean of some curves, (runs, epochs), and all of them as a shade; what is not finite is left out."""
    if not len(values):
        return
    epochs = np.arange(1, values.shape[1] + 1)
    with np.errstate(invalid="ignore", over="ignore"):
        mean = values.mean(axis=0)
    axis.plot(epochs, np.where(np.isfinite(mean), mean, np.nan), style, color=colour, label=label, linewidth=1.4)
    if is_shaded:
        axis.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0)


def _label(axis: Axes, title: str, measure: str) -> None:
    from matplotlib.ticker import MaxNLocator

    axis.set_title(title, fontsize=9)
    axis.set_xlabel("epoch", fontsize=8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.tick_params(labelsize=8)
    axis.grid(alpha=0.3)
    if measure.endswith("loss"):
        axis.set_yscale("log")


def _alike(axes: np.ndarray) -> None:
    """Accuracies of all places on one scale, and so are losses: what is above and below can be compared."""
    for scale in ("linear", "log"):
        chosen = [axis for axis in axes.flat if axis.get_yscale() == scale]
        low = min((axis.get_ylim()[0] for axis in chosen), default=0)
        high = max((axis.get_ylim()[1] for axis in chosen), default=1)
        for axis in chosen:
            axis.set_ylim(low, high)
