"""Cures as code to paste: the switches that cured, and changes to the one layer, each of them run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diag.engine.attribution.edits import ON_CPU, SPLIT, split_of
from diag.engine.attribution.switches import SWITCHES
from diag.engine.places import Place
from diag.engine.program import Program
from diag.verdict.attribution import Outcome, Trial, Workaround, outcome

RANK_SPLIT, RANK_ON_CPU = 12, 35  # beside the ranks of switches: a change to one layer, and its copies to the CPU


@dataclass(frozen=True)
class Change:
    """A change to a layer's code: `name` is the edit that stands for it."""

    name: str
    code: str
    why: str
    rank: int


def changes_of(layer: str | None, program: Program, config: Any, place: Place) -> list[Change]:
    """What could be changed about a layer of the model; none for the loss, the optimizer and the whole step."""
    if layer is None or layer not in program.layers:
        return []
    kind, settings = _layer_in(config, layer.split("/")[-1])
    changes = [_on_cpu(layer, kind)]
    split = split_of(program, layer)
    if split is not None and place.is_compiled:
        why = f"an Identity stands between {split.source_op} and {split.op}, so the two are no longer fused"
        changes.append(Change(f"{SPLIT}:{layer}", _split_code(layer, kind, settings, split.op), why, RANK_SPLIT))
    return changes


def _split_code(layer: str, kind: str, settings: dict[str, Any], op: str) -> str:
    activation = settings.get("activation")
    called = f"keras.activations.{activation}" if isinstance(activation, str) else f"tf.nn.{op.lower()}"
    return (
        f'# layer "{layer}": the {kind} without its activation, then the activation by itself\n'
        f"x = keras.layers.{kind}(..., activation=None)(x)\n"
        f"x = keras.layers.Lambda(lambda y: {called}(tf.identity(y)))(x)"
    )


def _on_cpu(layer: str, kind: str) -> Change:
    code = (
        f'# layer "{layer}": this class in place of keras.layers.{kind}\n'
        f"class {kind}OnCPU(keras.layers.{kind}):\n"
        "    def call(self, *args, **kwargs):\n"
        '        with tf.device("CPU:0"):\n'
        "            return super().call(*args, **kwargs)"
    )
    return Change(f"{ON_CPU}:{layer}", code, "its forward pass runs on the CPU, with copies both ways", RANK_ON_CPU)


def _layer_in(config: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Class and settings of a layer in a model's configuration; `Layer` where it is not there."""
    if isinstance(config, dict):
        settings = config.get("config")
        if isinstance(settings, dict) and settings.get("name") == name and "class_name" in config:
            return str(config["class_name"]), settings
    for inner in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        found = _layer_in(inner, name)
        if found[1]:
            return found
    return "Layer", {}


def workarounds(
    trials: Sequence[Trial], baseline: Trial, changes: Sequence[Change]
) -> tuple[tuple[Workaround, ...], tuple[Workaround, ...]]:
    """Those that cure, cheapest first, and the changes to the layer that were run and do not."""
    known = {change.name: change for change in changes}
    curing: list[tuple[int, Workaround]] = []
    failed = []
    for trial in trials:
        cures = outcome(trial, baseline) is Outcome.CURES
        described = [known.get(name) or SWITCHES[name] for name in trial.switches]
        made = Workaround(
            trial.name, "\n".join(each.code for each in described), "; ".join(each.why for each in described), trial
        )
        if cures:
            curing.append((100 * len(described) + max(each.rank for each in described), made))
        elif any(name in known for name in trial.switches) and not trial.reason:
            failed.append(made)
    return tuple(made for _, made in sorted(curing, key=lambda pair: pair[0])), tuple(failed)
