"""Lanes: the same program at two places, each with variables of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf

from diag.engine.faults.catalogue import simulation_of
from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.executable import Executable
from diag.engine.graphs.graph import Port
from diag.engine.graphs.tf_runtime import full_device, to_numpy
from diag.engine.graphs.variables import State, VariableSet
from diag.engine.lanes.compiled import build
from diag.engine.step.program import Program
from diag.errors import UserError
from diag.machine.environment import environment_of
from diag.machine.places import Place


def _devices() -> list[str]:
    """What TensorFlow sees here, as places name it."""
    found = [device.name.split(":", 1)[-1].removeprefix("device:") for device in tf.config.list_logical_devices()]
    return sorted({name.replace("physical_", "") for name in found})


def has_device(place: Place) -> bool:
    """Whether this machine has the place's device."""
    return place.device in _devices()


def check_device(place: Place) -> None:
    """Raises UserError where this machine has no such device: never a silent run elsewhere."""
    names = _devices()
    if place.device not in names:
        raise UserError(
            f"{place}: this machine has no {place.device}; TensorFlow {tf.__version__} sees {', '.join(names)}. "
            "Choose one of these, or a simulated place such as sim:tf32"
        )


@dataclass(frozen=True)
class Recorded:
    """What a lane had in a step that was recorded: values by port, and the state after, None where not kept."""

    values: Mapping[Port, Any]
    after: Sequence[Any]


Edit = Callable[[Executable], Executable]


class Lane:
    """One of the computations in lockstep: a place, its variables, and the step built for it.

    edits: changes to every graph before it is built.
    """

    def __init__(
        self,
        name: str,
        place: Place,
        simulation: Simulation | None,
        state: Sequence[tf.Tensor],
        edits: Sequence[Edit] = (),
    ) -> None:
        self.name, self.place, self.simulation, self.edits = name, place, simulation, edits
        with tf.device(place.device):
            self._variables = VariableSet([tf.Variable(value, trainable=False) for value in state])
        self._scratch: VariableSet | None = None
        self._state: State | None = None  # what the variables hold, where that is known

    @classmethod
    def at(cls, name: str, place: Place, program: Program, seed: int, edits: Sequence[Edit] = ()) -> Lane:
        """A lane at a place, its variables those of the program before the first step."""
        check_device(place)
        simulation = simulation_of(place)
        if simulation is not None:
            simulation.bind_to(program, seed)
        return cls(name, place, simulation, program.initial_state(), edits)

    @property
    def label(self) -> str:
        """Where it runs, for a report."""
        return str(self.place)

    def environment(self) -> dict[str, Any]:
        """Versions, device and settings of the place, for the trace and the report."""
        return {"place": self.label, **environment_of(self.place)}

    def begin(self, step: int) -> None:
        """Called before a step's state is settled; a lane that was recorded takes up its state then."""

    def recorded(self, step: int, program: Program) -> Recorded | None:
        """What this lane had in a step when it was recorded elsewhere; a live lane has nothing such."""
        return None

    def draws(self, step: int, program: Program) -> Mapping[Port, Any]:
        """Random draws that a recorded lane had and no state determines; a live lane draws its own."""
        return {}

    @property
    def variables(self) -> list[tf.Variable]:
        """For whoever reads or writes them one by one: what is known of their values is forgotten."""
        self._state = None
        return self._variables.variables

    @property
    def scratch(self) -> list[tf.Variable]:
        """A second set of variables at the place, for units that are run by themselves."""
        return self._scratch_set.variables

    @property
    def _scratch_set(self) -> VariableSet:
        if self._scratch is None:
            with tf.device(self.place.device):
                scratch = [tf.Variable(variable, trainable=False) for variable in self._variables.variables]
            self._scratch = VariableSet(scratch)
        return self._scratch

    def state(self) -> State:
        """The values of all variables now; later steps do not change them.  Read only where a step may have been."""
        if self._state is None:
            self._state = self._variables.read()
        return self._state

    def load(self, state: Sequence[Any]) -> None:
        """Give all variables these values."""
        self._state = None
        self._variables.write(state)
        if isinstance(state, State):
            self._state = state

    def load_scratch(self, state: Sequence[Any]) -> None:
        """Give the second set of variables these values."""
        self._scratch_set.write(state)

    def carried(self) -> dict[str, Any]:
        """Its variables and what a fault at its place remembers, to go on in another process."""
        memory = None if self.simulation is None else dict(self.simulation.memory)
        return {"variables": [to_numpy(variable) for variable in self.state()], "memory": memory}

    def take_up(self, carried: dict[str, Any]) -> None:
        """Go on from what `carried` gave in another process."""
        self.load(carried["variables"])
        if self.simulation is not None:
            self.simulation.memory.clear()
            self.simulation.memory.update(carried["memory"])

    def build(
        self, executable: Executable, on_scratch: bool = False, is_fresh: bool = False
    ) -> Callable[..., list[Any]]:
        """What runs an executable at the place.  is_fresh: compiled anew, even if one of its structure is known."""
        for edit in self.edits:
            executable = edit(executable)
        variables = self.scratch if on_scratch else self.variables
        function = build(executable, self.place, self.simulation, variables, is_fresh=is_fresh)
        return function if on_scratch else partial(self._run, function)

    def _run(self, function: Callable[..., list[Any]], *feeds: Any) -> list[Any]:
        self._state = None
        return function(*feeds)

    def enter_step(self, step: int) -> None:
        if self.simulation is not None:
            self.simulation.enter_step(step)

    def place_feeds(self, values: Sequence[Any]) -> list[tf.Tensor]:
        """The values at the place: those that are there as they are, others as copies."""
        here = full_device(self.place.device)
        with tf.device(self.place.device):
            return [value if getattr(value, "device", None) == here else tf.identity(value) for value in values]


class CompiledSteps:
    """The whole step of a program, built for a lane once per set of watched tensors."""

    def __init__(self, lane: Lane, program: Program) -> None:
        self.lane = lane
        self.program = program
        self._built: dict[Any, Callable[..., list[Any]]] = {}

    def run(
        self,
        batch: Sequence[Any],
        watched: Sequence[Port],
        shared: Mapping[Port, Any] | None = None,
        is_kept: bool = True,
    ) -> dict[Port, Any]:
        """Run one step in place; returns its results and the watched values.

        `shared` values are taken as they are instead of being computed.  Not `is_kept`: what TensorFlow compiled for
        this is let go, for it is not run again.
        """
        shared = shared or {}
        ports, given = tuple(dict.fromkeys((*self.program.results, *watched))), tuple(shared)
        if (ports, given) not in self._built:
            self._built[ports, given] = self.lane.build(self.program.step(ports, given))
        feeds = self.lane.place_feeds([*batch, *shared.values()])
        run = self._built[ports, given] if is_kept else self._built.pop((ports, given))
        return dict(zip(ports, run(*feeds), strict=True))
