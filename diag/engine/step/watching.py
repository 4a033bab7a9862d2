"""Which tensors of a compiled step can be watched without changing what TensorFlow fuses.

To watch a tensor is to add a reader to it.  A graph rewriter fuses a node into the one that reads it only where
nothing else does (TensorFlow, grappler/optimizers/remapper.cc, `HasAtMostOneFanoutAtPort0`, and
arithmetic_optimizer.cc, `AddOpsRewriteStage`), so one more reader matters where there is one, and nowhere else.
Readers are counted as a rewriter meets them: after what leads nowhere is pruned, equal nodes are merged, and
readers of a shape alone are folded into constants; and an Identity's readers are those of what it hands on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from diag.common.wording import first_few
from diag.engine.graphs.graph import OPAQUE, Graph, Node, Port
from diag.engine.graphs.reachability import SHAPE_OPS, live_nodes
from diag.engine.graphs.tf_runtime import op_def
from diag.engine.step.program import Program, WatchedTensors

MOST_NAMED = 4  # in a sentence
ENOUGH = 2  # readers: with one more, there are still several
PLUMBING = ("Identity", "IdentityN", "StopGradient")
_SHAPE_ONLY = (*SHAPE_OPS, "ZerosLike", "OnesLike")  # constants, once shapes are known


def with_watched_tensors(program: Program) -> Program:
    """The program with what can be watched of it."""
    return replace(program, watched=watched_tensors_of(program))


def watched_tensors_of(program: Program) -> WatchedTensors:
    """Of the layer outputs, gradients and random draws of a step, those that can be watched freely."""
    refused = unsafe_to_watch(program, (port for port in worth_watching(program) if port not in program.random_ports))
    return WatchedTensors(tuple(port for port in worth_watching(program) if port not in refused), refused)


def described(program: Program) -> str:
    """What is watched freely, and what is not and why, in one sentence."""
    outputs: dict[Port, str] = {}
    for name, ports in program.layer_outputs.items():  # a model's own output is its last layer's
        for port in ports:
            outputs.setdefault(port, name)
    gradients = {port: f"gradient of {name}" for name, port in program.gradients.items()}
    watched, parts, refused = program.watched, [], []
    for what, names in (("layer outputs", outputs), ("gradients", gradients)):
        if not names:
            continue
        parts.append(f"{sum(port in watched.ports for port in names)} of {len(names)} {what}")
        refused += [f"{name} ({watched.refused[port]})" for port, name in names.items() if port in watched.refused]
    said = f"watched in the compiled step: {' and '.join(parts)}"
    if not refused:
        return f"{said}; none of it can be inside a fusion"
    more = f", and {len(refused) - MOST_NAMED} more" if len(refused) > MOST_NAMED else ""
    return f"{said}. Not watched, since that might break a fusion: {'; '.join(refused[:MOST_NAMED])}{more}"


def worth_watching(program: Program) -> tuple[Port, ...]:
    """Layer outputs, gradients and random draws: each leaves its layer, and yet may be fused with what reads it."""
    outputs = [port for ports in program.layer_outputs.values() for port in ports]
    return tuple(dict.fromkeys([*outputs, *program.gradients.values(), *program.random_ports]))


def fusion_safe(program: Program, readers: Readers) -> dict[Port, str]:
    """The tensors that may be tapped, all of them at once, with the reason."""
    safe = {port: reason for port in _tensors(program.graph) if (reason := readers.why_safe(port))}
    returned = dict.fromkeys((*_returned(program.graph), *program.predictions), "the step returns it")
    return {**dict.fromkeys(program.losses, "it is a loss"), **returned, **safe}


def _returned(graph: Graph) -> Iterable[Port]:
    """What a step gives back, before the Identity that every return adds: what Keras reads too."""
    for port in graph.outputs:
        node = graph.by_name[port.node]
        yield node.inputs[0] if node.op == "Identity" else port


def unsafe_to_watch(program: Program, watched: Iterable[Port]) -> dict[Port, str]:
    """Of these tensors, those that may break a fusion, with the reason."""
    readers = Readers(program.graph, program.results)
    safe = fusion_safe(program, readers)
    return {port: readers.why_not(port) for port in dict.fromkeys(watched) if port not in safe}


def _tensors(graph: Graph) -> Iterable[Port]:
    for node in graph:
        if node.location.index is not None:
            yield from (Port(node.name, i) for i, dtype in enumerate(node.dtypes) if dtype not in OPAQUE)


class Readers:
    """Who reads each tensor in a step in which only its results are fetched."""

    def __init__(self, graph: Graph, results: Iterable[Port]) -> None:
        self.live = live_nodes(graph, results)
        kept = [node for node in graph if node.name in self.live]
        twins = _twins(kept)
        self.of: dict[Port, dict[str, str]] = defaultdict(dict)  # port -> reader -> its op
        for node in reversed(kept):  # a reader before what it reads, so that an Identity's own are known
            for index, port in enumerate(node.inputs):
                if node.op in PLUMBING:
                    self.of[port].update(self.of[Port(node.name, index)])
                elif node.op not in _SHAPE_ONLY:
                    self.of[port][twins[node.name]] = node.op

    def why_safe(self, port: Port) -> str:
        """ "" where it is not safe."""
        readers = self.of[port]
        if port.node not in self.live or len(readers) < ENOUGH:
            return ""
        return f"{len(readers)} ops read it already ({first_few(sorted(readers.values()))})"

    def why_not(self, port: Port) -> str:
        if port.node not in self.live:
            return "nothing needs it, so to watch it is to compute it"
        readers = self.of[port]
        only = next(iter(readers.values()), "")
        return f"only {only} reads it" if only else "nothing reads it"


def _twins(nodes: Iterable[Node]) -> dict[str, str]:
    """Node -> the first of all that compute the same: grappler keeps that one alone."""
    first: dict[tuple[object, ...], str] = {}
    twins: dict[str, str] = {}
    for node in nodes:
        if not node.inputs or op_def(node.op).is_stateful or node.function_names():
            twins[node.name] = node.name
            continue
        inputs = tuple((twins.get(port.node, port.node), port.index) for port in node.inputs)
        attributes = tuple(sorted((k, v.SerializeToString()) for k, v in node.proto.attr.items() if k[0] != "_"))
        twins[node.name] = first.setdefault((node.op, inputs, node.control, attributes), node.name)
    return twins
