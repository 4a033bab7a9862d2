"""What every look into a trace begins with: what it is, where it ran, and what was found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from diag.common.modes import figure_in
from diag.common.text import LONGEST, as_text
from diag.common.wording import counted, figure, ranges_of
from traces.inspector.personal import personal_data
from traces.inspector.reading import InspectedTrace


@dataclass(frozen=True)
class Header:
    """The documents of a trace, as far as they concern all of it.

    `losses` are by lane and step, `figure` says what they are. `planned` is how many steps were to run, None for an
    open-ended run; `report` the last report stored, None while the run goes on and after a kill; `personal` says what
    can be private.
    """

    path: str
    schema: str
    version: str
    created: str
    environments: Mapping[str, Mapping[str, Any]]
    command: tuple[str, ...]
    seeds: Mapping[str, int]
    model: str
    steps: tuple[int, ...]
    planned: int | None
    losses: Mapping[str, Mapping[int, float]]
    report: Mapping[str, Any] | None
    personal: str = ""
    figure: str = "loss"

    def to_dict(self) -> dict[str, Any]:
        return {
            "trace": self.path,
            "trace_schema": self.schema,
            "version": self.version,
            "created": self.created,
            "lanes": self.environments,
            "command": self.command,
            "seeds": self.seeds,
            "personal_data": self.personal,
            "model": self.model,
            "steps_whole": len(self.steps),
            "steps_planned": self.planned,
            "verdict": None if self.report is None else self.report.get("verdict"),
            "first_divergence": None if self.report is None else self.report.get("first_divergence"),
        }


def header_of(trace: InspectedTrace) -> Header:
    steps = trace.steps
    return Header(
        path=str(trace.path),
        schema=trace.schema,
        version=trace.version,
        created=trace.created,
        environments={lane: trace.environment(lane) for lane in trace.layout.lanes},
        command=tuple(trace.command),
        seeds=trace.seeds,
        model=_model_text(trace.model_config),
        steps=tuple(trace.whole_steps),
        planned=trace.layout.steps,
        losses={lane: dict(zip(steps, map(float, losses), strict=False)) for lane, losses in trace.losses.items()},
        report=trace.report(),
        personal=personal_data(trace),
        figure=figure_in(trace.settings),
    )


def facts_of(header: Header) -> list[tuple[str, str]]:
    """The header as lines of a name and a text."""
    written = f"{header.schema}, written by tf-lockstep {header.version}, {_time_text(header.created)}"
    places = [(lane, _place_text(environment)) for lane, environment in header.environments.items()]
    facts = [
        ("trace", header.path),
        ("", written),
        ("verdict", _verdict_text(header.report)),
        ("steps", _steps_text(header)),
        *places,
        ("model", header.model),
        (header.figure, _losses_text(header)),
        ("command", shlex.join(header.command)),
        ("holds", header.personal),
    ]
    return [(as_text(name), as_text(text, longest=LONGEST)) for name, text in facts if text]


def _model_text(config: Mapping[str, Any] | None) -> str:
    if config is None:
        return ""
    inner = config.get("config")
    inner = inner if isinstance(inner, Mapping) else {}
    kind = str(config.get("class_name") or config.get("class") or "")
    layers = inner.get("layers")
    number = f", {counted(len(layers), 'layer')}" if isinstance(layers, list) else ""
    return " ".join(filter(None, [kind, str(inner.get("name", ""))])) + number


def _time_text(created: str) -> str:
    return created.replace("T", " ").replace("+00:00", " UTC")


def _place_text(environment: Mapping[str, Any]) -> str:
    """The place, and the versions and the processor that explain most differences between two lanes."""
    device = environment.get("device")
    chip = device.get("processor") or device.get("name") if isinstance(device, Mapping) else device
    versions = [
        f"{name} {environment[key]}"
        for key, name in (("tensorflow", "TensorFlow"), ("keras", "Keras"))
        if key in environment
    ]
    return ", ".join(filter(None, [str(environment.get("place", "")), *versions, str(chip or "")]))


def _verdict_text(report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "none yet: the run goes on, or was stopped before its report"
    verdict, first = str(report.get("verdict", "none")), report.get("first_divergence")
    if not isinstance(first, Mapping):
        return verdict
    return f"{verdict}: {_divergence_text(first)}"


def _divergence_text(first: Mapping[str, Any]) -> str:
    """The first divergence of a report, in one sentence."""
    what = f"op {first.get('op_index')} {first.get('op_type')}" if first.get("unit") == "op" else str(first.get("unit"))
    of = first.get("variable") or first.get("layer")
    parts = [
        f"{what} of {of}" if of and first.get("unit") == "op" else f"{what} {of}" if of else what,
        f"step {first.get('step')}",
        str(first.get("phase")),
    ]
    excess = first.get("excess")
    beyond = f", excess {figure(float(excess))}" if isinstance(excess, (int, float, str)) else ""
    return f"{', '.join(parts)}; {first.get('cause')}, blame {first.get('blame')}{beyond}"


def _steps_text(header: Header) -> str:
    of = "" if header.planned is None else f" of {header.planned:,} planned"
    which = f": {ranges_of(header.steps)}" if header.steps else ""
    return f"{len(header.steps):,} whole{of}{which}"


def _losses_text(header: Header) -> str:
    texts = []
    for step in dict.fromkeys((*header.steps[:1], *header.steps[-1:])):
        values = [(lane, losses[step]) for lane, losses in header.losses.items() if step in losses]
        texts.append(f"step {step}: " + ", ".join(f"{lane} {loss:.7g}" for lane, loss in values))
    return "; ".join(texts)
