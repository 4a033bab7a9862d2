"""The variables of a model and its optimizers as a step names them: `conv2d_1/kernel`, and what is kept of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras

from diag.engine.graphs.locations import OPTIMIZER
from diag.engine.step.keras_calls import LayerCalls
from diag.engine.step.program import VariableSpec


def names_of_optimizers(model: keras.Model, optimizers: list[Any]) -> list[str]:
    """Each by the attribute of the model that holds it: `optimizer`, `d_optimizer`; else by its own name."""
    held = {id(value): name for name, value in reversed(vars(model).items())}
    names: list[str] = []
    for optimizer in optimizers:
        name = held.get(id(optimizer), optimizer.name)
        names.append(name if name not in names else f"{name}_{len(names)}")
    return names


def describe_variables(
    model: keras.Model, calls: LayerCalls, labels: list[str], optimizers: Mapping[str, keras.Optimizer]
) -> tuple[list[Any], tuple[VariableSpec, ...]]:
    """All variables of the training state, with unique names such as `conv2d_1/kernel`."""
    owners: dict[int, str] = {}
    for unit, label in sorted(zip(calls.units, labels, strict=True), key=lambda pair: -len(pair[0].variables)):
        owners.update((id(variable), label) for variable in unit.variables)
    trainable = {id(variable) for variable in model.trainable_variables}
    of_optimizer = {id(v): name for name, optimizer in optimizers.items() for v in optimizer.variables}
    of_optimizers = [v for optimizer in optimizers.values() for v in optimizer.variables]
    variables = list({id(v): v for v in [*model.variables, *of_optimizers]}.values())
    taken: Counter[str] = Counter()
    specs: list[VariableSpec] = []
    weight_names: dict[str, str] = {}
    for variable in variables:
        layer, of = owners.get(id(variable)), None
        name, kind = _short_name(variable.path, model.name, layer), "state"
        if id(variable) in trainable:
            kind = "weight"
            weight_names[variable.path.replace("/", "_")] = name
        elif id(variable) in of_optimizer:
            kind, of = _slot_of(variable.path.split("/")[-1], weight_names)
            held_by = of_optimizer[id(variable)]
            name = f"{held_by}/{of}/{kind}" if of else f"{held_by}/{name}"
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}_{taken[name] - 1}"
        specs.append(VariableSpec(name, kind, variable.dtype, tuple(variable.shape), layer, of))
    return variables, tuple(specs)


def _short_name(path: str, model_name: str, layer: str | None) -> str:
    parts = path.split("/")
    if len(parts) > 1 and parts[0] == model_name:
        parts = parts[1:]
    if layer is not None and layer.split("/")[-1] not in parts[:-1]:
        return f"{layer}/{parts[-1]}"
    return "/".join(parts)


def _slot_of(last: str, weights: dict[str, str]) -> tuple[str, str | None]:
    """Keras names a slot `<path of its weight, / as _>_<slot>`; the longest match is the weight."""
    matches = [path for path in weights if last.startswith(path + "_")]
    if not matches:
        return OPTIMIZER, None
    path = max(matches, key=len)
    return last[len(path) + 1 :], weights[path]
