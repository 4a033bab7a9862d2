"""Compiling a graph for a place: what `model.fit` runs, with the place's faults planted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import tensorflow as tf

from diag.common.wording import first_line
from diag.engine.faults.injection import Injection
from diag.engine.faults.simulation import Simulation
from diag.engine.graphs.executable import FETCH_PREFIX, Executable, with_fetches
from diag.engine.graphs.interpreter import Interpreter
from diag.engine.graphs.pinning import restored
from diag.engine.graphs.tf_runtime import register_function
from diag.engine.lanes.eager import EagerPlace, SingleLane, VariableRef
from diag.errors import UserError
from diag.machine.places import Place
from diag.machine.settings import runs_rewriters


def build(
    executable: Executable, place: Place, simulation: Simulation | None, variables: Sequence[tf.Variable]
) -> Callable[..., list[Any]]:
    """A function of the feeds that runs at the place and returns the fetches."""
    if place.execution == "eager":
        return _build_eager(executable, place, simulation, variables)
    graph_def = with_fetches(executable)
    injection = None
    if simulation is not None:
        if place.execution == "xla" and simulation.fault is not None:
            raise UserError(f"{place}: a simulated op fault cannot run inside XLA; use the execution eager or graph")
        if simulation.rewriter is not None and runs_rewriters():
            graph_def = _rewritten(graph_def, simulation)
        if simulation.fault is not None:
            injection = Injection(simulation, executable.graph, executable.functions, place.execution)
            graph_def = injection.apply(graph_def)
    rewriter = simulation.name if simulation is not None and simulation.rewriter is not None else None
    function = _compile(executable, graph_def, place, variables, rewriter)
    return function if injection is None else partial(_call, function, injection)  # type: ignore[no-any-return]


def _call(function: Callable[..., list[Any]], _injection: Injection, *feeds: tf.Tensor) -> list[Any]:
    """The functions of a fault live as long as what calls them: TensorFlow holds them by their numbers alone."""
    return function(*feeds)


def _compile(
    executable: Executable, graph_def: Any, place: Place, variables: Sequence[tf.Variable], rewriter: str | None
) -> Any:
    results = [f"{FETCH_PREFIX}{index}:0" for index in range(len(executable.fetches))]
    mapped = {*executable.feeds, *executable.captures, *executable.constants}
    used = {text.split(":")[0] for node in graph_def.node for text in node.input} & mapped
    graph_def = tf.compat.v1.GraphDef.FromString(graph_def.SerializeToString())
    kept = [node for node in graph_def.node if node.name not in mapped]
    for node in kept:
        _stand_alone(node, mapped)
    del graph_def.node[:]
    graph_def.node.extend(kept)

    for function_def in graph_def.library.function:
        register_function(function_def)

    @tf.function(autograph=False, jit_compile=place.execution == "xla")
    def run(*feeds: tf.Tensor) -> list[tf.Tensor]:
        capture = tf.compat.v1.get_default_graph().capture  # type: ignore[attr-defined]
        handles = {name: variables[index].handle for name, index in executable.captures.items()}
        captured = {name: capture(value) for name, value in {**handles, **executable.constants}.items() if name in used}
        given = {**dict(zip(executable.feeds, feeds, strict=True)), **captured}
        given = {name: value for name, value in given.items() if name in used}
        try:
            with tf.device(place.device):
                return tf.graph_util.import_graph_def(  # type: ignore[no-any-return]
                    graph_def, input_map=given, return_elements=results, name=""
                )
        except (ValueError, tf.errors.InvalidArgumentError) as error:
            if rewriter is None:
                raise
            reason = first_line(error)[:300]
            raise UserError(f"rewriter {rewriter}: expected a graph that TensorFlow can import: {reason}") from error

    if place.execution != "xla":
        return run

    def at_the_place(*feeds: tf.Tensor) -> list[tf.Tensor]:
        with tf.device(place.device):  # else XLA compiles for the first GPU, wherever the variables are
            return run(*feeds)  # type: ignore[no-any-return]

    return at_the_place


def _stand_alone(node: Any, gone: set[str]) -> None:
    """Forget that a node wanted to be where one is that is fed, or to wait for it: an import fails without that one."""
    inputs = [text for text in node.input if not (text.startswith("^") and text[1:] in gone)]
    if len(inputs) < len(node.input):
        del node.input[:]
        node.input.extend(inputs)
    wanted = node.attr["_class"].list.s if "_class" in node.attr else ()
    left = [name for name in wanted if name.decode().removeprefix("loc:@") not in gone]
    if len(left) < len(wanted):
        del node.attr["_class"]
        if left:
            node.attr["_class"].list.s.extend(left)


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
    executable: Executable, place: Place, simulation: Simulation | None, variables: Sequence[tf.Variable]
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
