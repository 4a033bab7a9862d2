"""Cures as code to paste: the switches that cured, and changes to the one layer, each of them run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from diag.common.code_text import identifier, in_comment
from diag.engine.attribution.dtypes import DIGITS, DTYPE, POLICY, dtypes_to_try
from diag.engine.attribution.edits import ON_CPU, SPLIT, Split, split_of
from diag.engine.step.program import Program
from diag.machine.places import Place
from diag.machine.switches import SWITCHES
from diag.verdict.attribution import Trial, TrialOutcome, Workaround, outcome

# Beside the ranks of switches: a change to a layer, fewer digits in it, its copies to the CPU.
RANK_SPLIT, RANK_DTYPE, RANK_ON_CPU = 12, 15, 35


@dataclass(frozen=True)
class Change:
    """A change to a layer's code: `name` is the edit that stands for it."""

    name: str
    code: str
    why: str
    rank: int


def changes_of(
    layers: Sequence[str], chain: Sequence[str], program: Program, config: Any, place: Place
) -> list[Change]:
    """What could be changed about layers of the model that are wrong; none for the loss, the optimizer, the whole step.

    chain: all the layers whose ops are wrong together, where that is known.
    """
    layers = [layer for layer in layers if layer in program.layers]
    if not layers:
        return []
    described = [(layer, *_layer_in(config, layer.split("/")[-1])) for layer in layers]
    names = ",".join(layers)
    codes = "\n".join(_on_cpu_code(layer, kind) for layer, kind, _ in described)
    changes = [Change(f"{ON_CPU}:{names}", codes, "forward passes run on the CPU, with copies both ways", RANK_ON_CPU)]
    if not place.is_compiled:
        return changes
    splits = [split_of(program, layer) for layer in layers]
    if all(splits):
        pairs = [(split, kind, known) for split, (_, kind, known) in zip(splits, described, strict=True) if split]
        between = "; ".join(dict.fromkeys(f"{split.source_op} and {split.op}" for split, *_ in pairs))
        why = f"an Identity stands between {between}, so they are no longer fused"
        codes = "\n".join(_split_code(split, kind, known) for split, kind, known in pairs)
        changes.append(Change(f"{SPLIT}:{names}", codes, why, RANK_SPLIT))
    together = [layer for layer in chain if layer in program.layers]
    for dtype in dtypes_to_try(program, together):
        kinds = [(layer, _layer_in(config, layer.split("/")[-1])[0]) for layer in together]
        codes = "\n".join(
            f'# layer "{in_comment(name)}"\nkeras.layers.{kind}(..., dtype="{POLICY[dtype]}")' for name, kind in kinds
        )
        why = f"computes in {dtype}, which has {DIGITS[dtype]}; judged as {dtype} is"
        changes.append(Change(f"{DTYPE}:{','.join(together)}={dtype}", codes, why, RANK_DTYPE))
    return changes


def _split_code(split: Split, kind: str, settings: dict[str, Any]) -> str:
    if split.before is not None:
        pair = f'"{in_comment(split.before)}" and layer "{in_comment(split.layer)}"'
        return f"# between layer {pair}\nx = keras.layers.Lambda(tf.identity)(x)"
    activation = settings.get("activation")
    known = identifier(activation, "")
    called = f"keras.activations.{known}" if known else f"tf.nn.{identifier(split.op.lower(), 'relu')}"
    return (
        f'# layer "{in_comment(split.layer)}": the {kind} without its activation, then the activation by itself\n'
        f"x = keras.layers.{kind}(..., activation=None)(x)\n"
        f"x = keras.layers.Lambda(lambda y: {called}(tf.identity(y)))(x)"
    )


def _on_cpu_code(layer: str, kind: str) -> str:
    return (
        f'# layer "{in_comment(layer)}": this class in place of keras.layers.{kind}\n'
        f"class {kind}OnCPU(keras.layers.{kind}):\n"
        "    def call(self, *args, **kwargs):\n"
        '        with tf.device("CPU:0"):\n'
        "            return super().call(*args, **kwargs)"
    )


def _layer_in(config: Any, name: str) -> tuple[str, dict[str, Any]]:
    """Class and settings of a layer in a model's configuration; `Layer` where it is not there."""
    if isinstance(config, dict):
        settings = config.get("config")
        if isinstance(settings, dict) and settings.get("name") == name and "class_name" in config:
            return identifier(config["class_name"], "Layer"), settings
    for inner in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        result = _layer_in(inner, name)
        if result[1]:
            return result
    return "Layer", {}


def workarounds(
    trials: Sequence[Trial], baseline: Trial, changes: Sequence[Change]
) -> tuple[tuple[Workaround, ...], tuple[Workaround, ...]]:
    """Those that cure, cheapest first, and the changes to the layer that were run and do not."""
    known = {change.name: change for change in changes}
    curing: list[tuple[int, Workaround]] = []
    failed = []
    for trial in trials:
        cures = outcome(trial, baseline) is TrialOutcome.CURES
        described = [known.get(name) or SWITCHES[name] for name in trial.switches]
        made = Workaround(
            trial.name, "\n".join(each.code for each in described), "; ".join(each.why for each in described), trial
        )
        if cures:
            curing.append((100 * len(described) + max(each.rank for each in described), made))
        elif any(name in known for name in trial.switches) and not trial.reason:
            failed.append(made)
    return tuple(made for _, made in sorted(curing, key=lambda pair: pair[0])), tuple(failed)
