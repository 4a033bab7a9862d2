"""What a step shows, by name: the tensors that traces keep and that two recordings are paired by."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from diag.common.modes import TRAIN
from diag.engine.graphs.graph import Graph, Port
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.graphs.variables import arrays_of
from diag.engine.step.program import Program
from traces.schema import STEP, VIEW

ACTIVATIONS, GRADIENTS, DRAWS = "activations", "gradients", "draws"
WEIGHTS, UPDATES, STATE = "weights", "update", "state"
VIEWING = ("Identity", "Reshape", "Squeeze", "ExpandDims", "StopGradient")  # hand on what is in their first input

Name = tuple[str, str]
"""(kind, name): "activations" by layer, "gradients", "update", "weights" and slots by variable."""


@dataclass(frozen=True)
class Series:
    """One tensor of every step: its (kind, name), shape and dtype, and how it is had (traces.schema)."""

    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    observed: str = STEP

    def fits(self, longest: Series) -> bool:
        """Whether there is room for it in a series of such tensors."""
        pairs = zip(self.shape, longest.shape, strict=False)
        return len(self.shape) == len(longest.shape) and all(length <= most for length, most in pairs)


def watched_tensors(program: Program) -> dict[Name, Port]:
    """The step's own tensors, as far as they are watched: layer outputs, gradients, and what its random ops draw."""
    found = _outputs(program)
    found.update({(GRADIENTS, name): port for name, port in program.gradients.items()})
    found.update({(DRAWS, port.node): port for port in program.random_ports})
    watched, shape = frozenset(program.watched.ports), program.graph.shape
    return {name: port for name, port in found.items() if port in watched and shape(port).is_fully_defined()}


def viewed(program: Program) -> dict[Name, tuple[Port, Port]]:
    """Layer outputs that are not watched, each with the watched tensor that it shows in another shape."""
    graph, watched = program.graph, frozenset(program.watched.ports)
    result: dict[Name, tuple[Port, Port]] = {}
    for name, port in _outputs(program).items():
        source = port
        while source not in watched and graph.by_name[source.node].op in VIEWING:
            source = graph.by_name[source.node].inputs[0]
        if port not in watched and source in watched and graph.shape(port).is_fully_defined():
            result[name] = port, source
    return result


def _outputs(program: Program) -> dict[Name, Port]:
    return {
        (ACTIVATIONS, layer if index == 0 else f"{layer}:{index}"): port
        for layer, ports in program.layer_outputs.items()
        for index, port in enumerate(ports)
    }


def variable_names(program: Program) -> list[Name]:
    """What each variable of the program is kept as, after the step: weights, state, or a slot of a weight."""
    kinds = {"weight": WEIGHTS, "state": STATE, "optimizer": STATE}
    return [(kinds.get(spec.kind, spec.kind), spec.of or spec.name) for spec in program.variables]


def series_of(program: Program) -> list[Series]:
    """Everything that a step of the program shows, in its order of execution."""
    graph = program.graph
    result = [
        Series(kind, name, *_shape_and_dtype(graph, port)) for (kind, name), port in watched_tensors(program).items()
    ]
    result += [
        Series(kind, name, tuple(graph.shape(port).as_list()), graph.dtype(port).name, VIEW)
        for (kind, name), (port, _) in viewed(program).items()
    ]
    for (kind, name), spec in zip(variable_names(program), program.variables, strict=True):
        result.append(Series(kind, name, tuple(spec.shape), spec.dtype))
        if kind == WEIGHTS and program.mode == TRAIN:
            result.append(Series(UPDATES, name, tuple(spec.shape), spec.dtype))
    return result


def longest_series(programs: Sequence[Program]) -> list[Series]:
    """The series of the first program and what others have besides, each as long along each axis as the longest."""
    found: dict[Name, Series] = {}
    for program in programs:
        for series in series_of(program):
            known = found.setdefault((series.kind, series.name), series)
            if len(known.shape) == len(series.shape):
                longest = tuple(map(max, known.shape, series.shape))
                found[series.kind, series.name] = replace(known, shape=longest)
    return list(found.values())


def _shape_and_dtype(graph: Graph, port: Port) -> tuple[tuple[int, ...], str]:
    """As arrays have them: complex numbers are pairs of reals."""
    dtype, shape = graph.dtype(port), graph.shape(port).as_list()
    return (*shape, 2) if dtype.is_complex else tuple(shape), dtype.real_dtype.name


class Shown:
    """What the steps of one program show, by name: which tensors these are is found out once."""

    def __init__(self, program: Program, left_out: Collection[Name] = ()) -> None:
        """left_out: names of tensors that are not to be shown."""
        tensors, views = watched_tensors(program), viewed(program)
        self._tensors = {name: port for name, port in tensors.items() if name not in left_out}
        self._views = {
            name: (source, program.graph.shape(port).as_list())
            for name, (port, source) in views.items()
            if name not in left_out
        }
        self._variables, self._has_updates = variable_names(program), program.mode == TRAIN

    def values(self, values: Mapping[Port, Any], before: Sequence[Any], after: Sequence[Any]) -> dict[Name, np.ndarray]:
        """The arrays of one step in one lane, by name; those of `values` that were not watched are left out."""
        result = {each: to_numpy(values[port]) for each, port in self._tensors.items() if port in values}
        for view, (source, shape) in self._views.items():
            if source in values:
                result[view] = to_numpy(values[source]).reshape(shape)
        states = arrays_of(before), arrays_of(after)
        for (kind, name), old, new in zip(self._variables, *states, strict=True):
            result[kind, name] = new
            if kind == WEIGHTS and self._has_updates:
                result[UPDATES, name] = new - old
        return result
