"""Compiling a graph for a place: what `model.fit` runs, with the place's faults planted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.auto_control_deps import LEGACY_RANDOM_OPS

from diag.common.wording import first_line
from diag.engine.faults.injection import Injection
from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.editing import make_node
from diag.engine.graphs.executable import FETCH_PREFIX, Executable, with_fetches
from diag.engine.graphs.graph import Port
from diag.engine.graphs.interpreter import Interpreter
from diag.engine.graphs.pinning import restored
from diag.engine.graphs.runtime_functions import Argument, Definition, RuntimeFunction, has_effect
from diag.engine.graphs.tf_runtime import register_function
from diag.engine.lanes.eager import EagerPlace, SingleLane, VariableRef
from diag.errors import UserError
from diag.machine.places import Place
from diag.machine.settings import runs_rewriters

Variables = Sequence[tf.Variable] | Mapping[int, tf.Variable]  # by index


def build(
    executable: Executable,
    place: Place,
    simulation: Simulation | None,
    variables: Variables,
    is_optimized: bool = True,
    is_fresh: bool = False,
) -> Callable[..., list[Any]]:
    """A function of the feeds that runs at the place and returns the fetches.

    Not `is_optimized`: it runs as it is written, without TensorFlow's graph optimizers, on feeds of any shape.
    is_fresh: TensorFlow optimizes and compiles it anew, though it may know one of the same structure.
    """
    if place.execution == "eager":
        return _build_eager(executable, place, simulation, variables)
    graph_def = with_fetches(executable)
    injection = None
    if simulation is not None:
        if place.execution == "xla" and simulation.fault is not None:
            raise UserError(f"{place}: a simulated op fault cannot run inside XLA; use the execution eager or graph")
        if simulation.rewriter is not None and runs_rewriters():
            graph_def = _importable(_rewritten(graph_def, simulation), simulation.name)
        if simulation.fault is not None:
            injection = Injection(simulation, executable.graph, executable.functions, place.execution)
            graph_def = injection.apply(graph_def)
    run = _compile(executable, graph_def, place, variables, is_optimized, is_fresh)
    return run if injection is None else partial(_call, run, injection)


def _call(function: Callable[..., list[Any]], _injection: Injection, *feeds: tf.Tensor) -> list[Any]:
    """The functions of a fault live as long as what calls them: TensorFlow holds them by their numbers alone."""
    return function(*feeds)


def _compile(
    executable: Executable, graph_def: Any, place: Place, variables: Variables, is_optimized: bool, is_fresh: bool
) -> Callable[..., list[Any]]:
    for function_def in graph_def.library.function:
        register_function(function_def)
    graph, is_xla = executable.graph, place.execution == "xla"
    shapes = {name: graph.shape(Port(name, 0)) if is_optimized else None for name in executable.feeds}
    handles = {name: variables[index].handle for name, index in executable.captures.items()}
    captured = {**handles, **executable.constants}
    read = {text.split(":")[0] for node in graph_def.node for text in node.input}
    arguments = [
        *(Argument(name, graph.dtype(Port(name, 0)), shape) for name, shape in shapes.items()),
        *(Argument(name, value.dtype) for name, value in captured.items() if name in read),
    ]
    nodes, results = _returning(graph_def, executable) if is_optimized else (graph_def.node, _fetched(executable))
    definition = Definition(nodes, arguments, results, f"/device:{place.device}", is_xla)
    draws = _draws(graph_def)
    function = RuntimeFunction(definition) if is_fresh or draws else RuntimeFunction.of(definition)
    given = [value for name, value in captured.items() if name in read]
    return CompiledRun(function, given, is_optimized, place.device if is_xla else None, definition if draws else None)


@dataclass
class CompiledRun:
    """A function of the feeds; given: what else it reads.  device: to call it at, None for anywhere.

    definition: its own, None where it draws no random numbers by kernels that remember how far they are.
    """

    function: RuntimeFunction
    given: Sequence[Any]
    is_optimized: bool
    device: str | None
    definition: Definition | None

    def __call__(self, *feeds: tf.Tensor) -> list[Any]:
        with nullcontext() if self.device is None else tf.device(self.device):  # else XLA takes the first GPU for all
            return self.function([*feeds, *self.given], self.is_optimized)

    def draw_again(self) -> None:
        """From the start of every stream of random numbers, by kernels that are made anew."""
        if self.definition is not None:
            self.function = RuntimeFunction(self.definition)


def _draws(graph_def: Any) -> bool:
    """Whether a kernel remembers how far a stream of random numbers is drawn: who shares it draws on from there."""
    bodies = [graph_def.node, *(function_def.node_def for function_def in graph_def.library.function)]
    return any(node.op in LEGACY_RANDOM_OPS for body in bodies for node in body)


def _fetched(executable: Executable) -> list[str]:
    return [f"{FETCH_PREFIX}{index}:0" for index in range(len(executable.fetches))]


def _returning(graph_def: Any, executable: Executable) -> tuple[list[Any], list[str]]:
    """The nodes, and as in a `tf.function` an Identity for each result, which waits for all effects.

    What is fetched is then read as TensorFlow's graph optimizers expect it to be.
    """
    taken = {node.name for node in graph_def.node}
    free = (name for name in _numbered("Identity") if name not in taken)
    effects = make_node(next(name for name in _numbered("NoOp") if name not in taken), "NoOp", [])
    effects.input.extend(f"^{node.name}" for node in graph_def.node if has_effect(node.op))
    identities = [
        make_node(name, "Identity", [text, f"^{effects.name}"], T=executable.graph.dtype(port))
        for name, text, port in zip(free, _fetched(executable), executable.fetches, strict=False)
    ]
    return [*graph_def.node, effects, *identities], [f"{node.name}:0" for node in identities]


def _numbered(name: str) -> Iterator[str]:
    return itertools.chain([name], (f"{name}_{number}" for number in itertools.count(1)))


def _importable(graph_def: Any, rewriter: str) -> Any:
    """What a rewriter made, if TensorFlow can read it: the runtime itself would take any graph, and crash."""
    try:
        with tf.Graph().as_default():
            tf.graph_util.import_graph_def(graph_def, name="")
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        reason = first_line(error)[:300]
        raise UserError(f"rewriter {rewriter}: expected a graph that TensorFlow can import: {reason}") from error
    return graph_def


def _rewritten(graph_def: Any, simulation: Simulation) -> Any:
    assert simulation.rewriter is not None
    copy = type(graph_def)()
    copy.CopyFrom(graph_def)
    try:
        result = simulation.rewriter(copy)
    except UserError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}"
        raise UserError(f"rewriter {simulation.name} raised {said}") from error
    result = copy if result is None else result
    if not hasattr(result, "node"):
        raise UserError(f"rewriter {simulation.name}: expected a GraphDef, received {type(result).__name__}")
    missing = {node.name for node in graph_def.node if node.name.startswith(FETCH_PREFIX)} - {
        n.name for n in result.node
    }
    if missing:
        raise UserError(f"rewriter {simulation.name}: expected the fetched nodes to stay, missing {sorted(missing)[0]}")
    return restored(graph_def, result)


def _build_eager(
    executable: Executable, place: Place, simulation: Simulation | None, variables: Any
) -> Callable[..., list[Any]]:
    interpreter: Interpreter[Any] = Interpreter(
        executable.functions, SingleLane(EagerPlace(place, simulation), variables)
    )
    fixed = {name: VariableRef(index) for name, index in executable.captures.items()}

    def run(*feeds: tf.Tensor) -> list[Any]:
        given = {**dict(zip(executable.feeds, feeds, strict=True)), **fixed, **executable.constants}
        found = interpreter.run(executable.graph, given, executable.fetches)
        return [found[port] for port in executable.fetches]

    return run
