"""Narrowing a layer to the ops that fail together: the oracle is the pattern that a rewriter written here looks for."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.localization.bisection import RegionRun, op_by_op, region_of, smallest_failing_region
from diag.engine.lockstep.unit_runs import units_of
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.units import Unit
from diag.machine.places import parse_place
from tests import zoo

PATTERNS = '''
from collections import Counter

def _chain(graph_def, ops):
    """Nodes that end a chain of these ops in which nothing else reads what is inside."""
    readers = Counter(t.split(":")[0] for n in graph_def.node for t in n.input if not t.startswith("^"))
    nodes = {n.name: n for n in graph_def.node}
    for node in graph_def.node:
        chain = [node]
        for op in reversed(ops[:-1]):
            source = nodes[chain[-1].input[0].split(":")[0]] if chain[-1].input else None
            if source is None or source.op != op or readers[source.name] != 1:
                break
            chain.append(source)
        if node.op == ops[-1] and len(chain) == len(ops):
            yield node

def _drop_last(graph_def, *ops):
    for node in list(_chain(graph_def, ops)):
        node.op = "Identity"
    return graph_def

def three(graph_def):
    return _drop_last(graph_def, "MatMul", "BiasAdd", "Relu")

def two(graph_def):
    return _drop_last(graph_def, "BiasAdd", "Relu")

def one(graph_def):
    return _drop_last(graph_def, "Tanh")

def backward(graph_def):
    """The gradient of a bias is taken from what comes in, not through the activation's gradient."""
    nodes = {n.name: n for n in graph_def.node}
    for node in graph_def.node:
        if node.op == "BiasAddGrad" and nodes[node.input[0].split(":")[0]].op == "ReluGrad":
            node.input[0] = nodes[node.input[0].split(":")[0]].input[0]
    return graph_def

def none(graph_def):
    return graph_def
'''


class Case:
    """One layer unit of a model at a rewritten place, with what the reference's step had at its boundary."""

    def __init__(self, make, place: str, layer: str, variable: str | None = None) -> None:
        self.program: Program = trace(zoo.made(make), zoo.batch_for(make))
        self.lane = Lane.at("candidate", parse_place(place), self.program, 0)
        self.unit: Unit = next(u for u in units_of(self.program).units if (u.layer, u.variable) == (layer, variable))
        reference = Lane.at("reference", parse_place("CPU:0"), self.program, 0)
        self.state = reference.state()
        watched_tensors = CompiledSteps(reference, self.program).run(
            flat_batch(zoo.batch_for(make)), self.unit.boundary
        )
        self.boundary = [watched_tensors[port] for port in self.unit.boundary]

    def smallest(self, judge=None):
        return smallest_failing_region(self.unit, self.boundary, self.state, self.lane, judge)


@pytest.fixture
def rewritten(tmp_path):
    (tmp_path / "patterns.py").write_text(PATTERNS)
    return lambda name: f"rewrite:{tmp_path}/patterns.py:{name}"


@pytest.mark.parametrize(
    "name, layer, ops",
    [
        ("three", "dense", ["MatMul", "BiasAdd", "Relu"]),
        ("two", "dense", ["BiasAdd", "Relu"]),
        ("one", "dense_1", ["Tanh"]),
        ("backward", "dense", ["ReluGrad", "BiasAddGrad"]),
    ],
)
def test_the_pattern_that_was_planted_is_what_is_left(rewritten, name, layer, ops):
    case = Case(zoo.mlp, rewritten(name), layer)
    region = case.smallest()
    assert [node.op for node in region.ops] == ops
    assert region.name == "+".join(ops)
    assert all(node.location.layer == layer for node in region.ops)
    assert set(region.op_indices) <= case.unit.op_indices


def test_what_does_not_fail_has_no_region(rewritten):
    assert Case(zoo.mlp, rewritten("none"), "dense").smallest() is None
    assert Case(zoo.mlp, rewritten("three"), "dense_1").smallest() is None  # its activation is another


def test_ops_of_one_chain_are_found_among_those_of_another():
    """The step size of Adam is computed beside its momenta, the ops of both taking turns."""
    case = Case(zoo.perceptron, "sim:fused-adam-no-bias-correction", "hidden", "hidden/kernel")
    region = case.smallest()
    planted = {"Pow": 2, "Sub": 2, "Sqrt": 1, "Mul": 1, "RealDiv": 1}
    assert Counter(node.op for node in region.ops) == planted


def test_the_judge_decides(rewritten):
    """Here: fails where an output is negative, which is what a relu was there for."""

    def is_negative(run: RegionRun) -> bool:
        pairs = zip(run.unit.outputs, run.outputs, strict=False)  # written variables follow the outputs
        return any(port.node.endswith("Relu") and to_numpy(x).min() < 0 for port, x in pairs)

    region = Case(zoo.mlp, rewritten("three"), "dense").smallest(is_negative)
    assert region.name == "MatMul+BiasAdd+Relu"


def test_op_by_op_is_what_numpy_computes():
    case = Case(zoo.mlp, "CPU:0", "dense")
    values, _ = op_by_op(case.unit, case.boundary, case.state, case.lane)
    inputs = dict(zip(case.unit.boundary, case.boundary, strict=True))
    (x,) = [value for port, value in inputs.items() if port.node in case.program.batch_inputs]
    weights = dict(zip((spec.name for spec in case.program.variables), case.state, strict=True))
    kernel, bias = weights["dense/kernel"].numpy(), weights["dense/bias"].numpy()
    (relu,) = case.program.layer_outputs["dense"]
    expected = np.maximum(x.numpy().astype(np.float64) @ kernel + bias, 0)
    np.testing.assert_allclose(values[relu], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("make, layer, variable", [(zoo.lstm, "lstm", None), (zoo.cnn, "conv", "conv/kernel")])
def test_every_half_of_a_layer_computes_what_its_ops_do(make, layer, variable):
    """Loops and updates too: regions of a healthy layer, compiled, against the ops one by one."""
    case = Case(make, "CPU:0", layer, variable)
    assert case.smallest() is None
    names = [n.name for n in case.unit.executable.graph if n.op not in ("Const", "Placeholder", "ReadVariableOp")]
    half = len(names) // 2
    for part in (names[:half], names[half:]):
        region = region_of(case.unit, part)
        assert set(n.name for n in region.executable.graph) >= set(part)
        seen: list[bool] = []
        found = smallest_failing_region(
            region, [op_by_op(case.unit, case.boundary, case.state, case.lane)[0][p] for p in region.boundary],
            case.state, case.lane, lambda run, seen=seen: bool(seen.append(_close(run))),
        )  # fmt: skip
        assert found is None and seen == [True]


def _close(run: RegionRun) -> bool:
    pairs = zip(run.outputs, run.expected, strict=True)
    return all(np.allclose(to_numpy(x), to_numpy(e), rtol=1e-4, atol=1e-6) for x, e in pairs)
