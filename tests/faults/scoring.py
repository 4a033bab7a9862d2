"""Running one planting through the command, and scoring what it says against where the fault struck."""

from __future__ import annotations

import io
import json
import tempfile
import time
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cattrs

from diag import lockstep
from tests.faults.baselines import METHODS, Named, watched
from tests.faults.catalogue import Planting, plantings
from tests.faults.planting import PHASES, Aim, Strike, recorded


@dataclass(frozen=True)
class Score:
    """What was said of one planting, and whether it is right."""

    planting: Planting
    struck: tuple[Strike, ...]  # any of these may be named
    verdict: str
    first: dict[str, Any] | None
    notes: str
    seconds: float
    others: Mapping[str, Named | None] = field(default_factory=dict)  # what the baselines name
    others_right: Mapping[str, bool] = field(default_factory=dict)  # step and layer; or, of a control, nothing

    def right_of(self, method: str) -> bool:
        return self.others_right.get(method, False)

    @property
    def was_planted(self) -> bool:
        return self.planting.is_control or bool(self.struck)

    @property
    def place_is_right(self) -> bool:
        if self.planting.is_control:
            return self.verdict in ("identical", "rounding")
        return self.first is not None and any(self._names(struck) for struck in self.struck)

    def _names(self, struck: Strike) -> bool:
        assert self.first is not None
        first = self.first
        if first["unit"] == "op":
            named = (first["step"], first["phase"], first["op_index"])
            return named == (struck.step, PHASES[struck.phase_order], struck.index)
        return (first["step"], first["unit"], first["layer"], first["variable"]) == (
            struck.step, "layer", struck.layer, struck.variable,
        )  # fmt: skip

    @property
    def cause_is_right(self) -> bool:
        if self.planting.is_control:
            return self.planting.noted in self.notes
        return self.first is not None and self.first["cause"].startswith(self.planting.causes)

    @property
    def blame_is_right(self) -> bool:
        return self.planting.is_control or (self.first is not None and self.first["blame"] == self.planting.blame)

    @property
    def is_right(self) -> bool:
        return self.place_is_right and self.cause_is_right and self.blame_is_right


def score_of(name: str) -> Score:
    """The score of the planting of that name."""
    (planting,) = [each for each in plantings() if each.name == name]
    with tempfile.TemporaryDirectory() as folder:
        return score(planting, Path(folder) / "out")


def score_in(document: Mapping[str, Any], planting: Planting) -> Score:
    """What `score_of` returned, after it was JSON."""
    return replace(cattrs.structure(document, Score), planting=planting)  # which names files of the machine it ran on


def score(planting: Planting, folder: Path) -> Score:
    """Run the command in this process; raises RuntimeError where it refuses or breaks."""
    out, err = io.StringIO(), io.StringIO()
    start = time.perf_counter()
    aim = Aim(planting.steps, planting.seed) if planting.is_aimed else None
    with recorded(aim) as strikes, watched() as seen, redirect_stdout(out), redirect_stderr(err):
        code = lockstep.main(planting.command(folder))
    seconds = time.perf_counter() - start
    if code not in (0, 1):
        raise RuntimeError(f"{planting.name}: exit code {code}: {err.getvalue()[-2000:]}")
    report = json.loads((folder / "report.json").read_text())
    struck = strikes.all_of_them if planting.is_chance else strikes.first(planting.least_steps)
    named = {name: method(seen.steps) for name, method in METHODS.items()}
    return Score(
        planting,
        struck,
        report["verdict"],
        report["first_divergence"],
        " ".join([json.dumps(report["notes"]), *out.getvalue().split()]),
        seconds,
        named,
        {
            name: place is None if planting.is_control else place is not None and place.is_at(struck, seen.steps)
            for name, place in named.items()
        },
    )
