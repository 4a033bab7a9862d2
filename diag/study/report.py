"""What a study says at its end: on the terminal, as report.json, and as report.html."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from diag.common.jsonable import json_safe
from diag.common.terminal import ReportConsole
from diag.common.wording import counted, figure, percent
from diag.machine.places import parse_place
from diag.report.html import study_page_of
from diag.study.diagnosis import StudyDiagnosis
from diag.study.findings import JUDGED, StudyFindings, sentences

SCHEMA = "lockstep-study/1"
TITLES = {
    "curves": "Accuracy and loss by place",
    "policies": "Each seed by dtype policy",
    "best": "The best by dtype policy, and seconds an epoch",
}
COLUMNS = ("place", "policy", "best", "of seeds", "last", "s/epoch")


@dataclass(frozen=True)
class StudyReport:
    """about: model, data and runs, by what they are called.  files: names relative to the study's folder."""

    findings: StudyFindings
    diagnoses: tuple[StudyDiagnosis, ...]
    about: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    files: Mapping[str, str]

    @property
    def is_bad(self) -> bool:
        return bool(self.findings.departures) or any(d.verdict == "divergence" for d in self.diagnoses)

    @property
    def headline(self) -> str:
        plan, left = self.findings.plan, self.findings.departures
        if not plan.candidates:
            return f"{plan.reference} by itself: nothing to hold it against"
        if not self.findings.is_judged:
            return "Nothing was judged: too few curves of the reference for a band"
        questions = len(plan.candidates) * len(plan.policies)
        if not left:
            return f"No candidate leaves the band of {plan.reference}, in {counted(questions, 'training')}"
        by_place: dict[str, list[str]] = {}
        for each in left:
            by_place.setdefault(each.place, []).append(each.policy)
        said = "; ".join(f"{place} in {' and '.join(policies)}" for place, policies in by_place.items())
        return f"More than chance: {said} leaves the band of {plan.reference}"

    @property
    def banners(self) -> list[str]:
        simulated = [place for place in self.findings.plan.places if parse_place(place).is_simulated]
        return [f"SIMULATED: {', '.join(simulated)} is no real device; a fault is planted in it"] if simulated else []

    @property
    def caption(self) -> str:
        measure = JUDGED[self.findings.shown]
        return f"{measure.capitalize()}, best and last, means over seeds; seconds an epoch, median"

    @property
    def rows(self) -> list[tuple[str, ...]]:
        number = percent if self.findings.shown.endswith("accuracy") else figure
        return [
            (
                each.place,
                each.policy,
                number(float(np.nanmean(each.best))) if np.isfinite(each.best).any() else "-",
                f"{number(min(each.best))} to {number(max(each.best))}" if np.isfinite(each.best).all() else "-",
                number(float(np.mean(each.last))) if np.isfinite(each.last).all() else "-",
                figure(each.seconds),
            )
            for each in self.findings.summaries
        ]

    def to_json(self) -> dict[str, Any]:
        findings = self.findings
        safe: dict[str, Any] = json_safe(
            {
                "schema": SCHEMA,
                "verdict": "departure" if self.is_bad else "chance" if findings.is_judged else "not judged",
                "plan": asdict(findings.plan),
                "left": [asdict(each) for each in findings.departures],
                "diagnoses": [asdict(each) for each in self.diagnoses],
                "places": [asdict(each) for each in findings.summaries],
                "sentences": sentences(findings),
                "about": dict(self.about),
                "notes": self.notes,
                "files": self.files,
            }
        )
        return safe

    def page(self, images: Mapping[str, bytes]) -> str:
        """images: each figure as PNG, by its name."""
        encoded = [(TITLES[name], base64.b64encode(content).decode()) for name, content in images.items()]
        return study_page_of(
            {
                "headline": self.headline, "is_bad": self.is_bad, "banners": self.banners, "chips": self.about,
                "notes": self.notes, "sentences": sentences(self.findings), "diagnoses": self.diagnoses,
                "figures": encoded, "columns": COLUMNS, "caption": self.caption, "rows": self.rows,
            }
        )  # fmt: skip

    def show(self, console: ReportConsole, folder: str) -> None:
        for line in (*self.banners, self.headline, ""):
            console.print(line)
        console.print(self.caption)
        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in COLUMNS:
            table.add_column(name, no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        console.print(table)
        for sentence in sentences(self.findings):
            console.print(sentence)
        for each in self.diagnoses:
            console.print(f"\nWhy, {each.place} in {each.policy}, {after(each)}:\n{each.sentence}")
        _list(console, "note", self.notes)
        console.print(f"\nAll of it is in {folder}: {', '.join(self.files.values())}", soft_wrap=True)


def after(each: StudyDiagnosis) -> str:
    return f"in lockstep from its state after {counted(each.after_epochs, 'epoch')}"


def _list(console: ReportConsole, name: str, texts: Sequence[str]) -> None:
    for text in texts:
        console.print(f"{name}  {text}")
