"""Cutting a step into layer units: nothing twice, nothing left out, nothing changed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import READ_OPS
from diag.engine.graphs.locations import LOSS_LAYER
from diag.engine.lanes.lane import Lane
from diag.engine.localization.explainers import bypasses
from diag.engine.lockstep.telescope import Telescope
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.units import Cut, Unit, cut, whole_step
from diag.machine.places import parse_place
from diag.numerics.op_classes import is_random
from tests import zoo

MODELS = [
    zoo.mlp, zoo.cnn, zoo.lstm, zoo.xception_block, zoo.transformer, zoo.shared, zoo.two_ways, zoo.branching,
]  # fmt: skip


@pytest.fixture(scope="module", params=MODELS, ids=lambda make: make.__name__)
def program(request) -> Program:
    return trace(zoo.made(request.param), zoo.batch_for(request.param))


def cut_of(program: Program) -> Cut:
    return cut(program, frozenset(node.op for node in program.graph if is_random(node.op)))


def unit_of(program: Program, layer: str, variable: str | None = None) -> Unit:
    (unit,) = [u for u in cut_of(program).units if (u.layer, u.variable) == (layer, variable)]
    return unit


def test_every_op_is_in_one_unit(program):
    """But random draws, which are given, and reads of what another unit wrote, which are taken from the step."""
    found = cut_of(program)
    assert found.uncut == {}
    times = Counter(
        node.name for unit in found.units for node in unit.executable.graph if node.location.index is not None
    )
    assert set(times.values()) == {1}
    left_out = [node for node in program.graph if node.location.index is not None and node.name not in times]
    assert [node.name for node in left_out if not is_random(node.op) and node.op not in READ_OPS] == []


def test_units_hold_what_is_said_of_their_ops(program):
    for unit in cut_of(program).units:
        locations = {node.location.unit for node in unit.executable.graph if node.location.index is not None}
        assert locations <= {(unit.layer, unit.variable)}
        assert unit.outputs or unit.writes


def test_every_trained_weight_has_an_update_of_its_own(program):
    written = {
        unit.variable: {program.variables[index].kind for index in unit.writes}
        for unit in cut_of(program).units
        if unit.variable
    }
    weights = {spec.name for spec in program.variables if spec.kind == "weight"}
    assert set(written) == weights
    assert all(kinds == {"weight", "momentum", "velocity"} for kinds in written.values())


def test_units_write_every_variable_that_the_step_writes(program):
    by_units = Counter(index for unit in cut_of(program).units for index in unit.writes)
    assert set(whole_step(program, ()).writes) == set(by_units)


def test_a_unit_reads_only_what_another_made_or_the_batch(program):
    batch = set(program.batch_inputs)
    units = cut_of(program).units
    made = {port for unit in units for port in unit.outputs}
    for unit in units:
        for port in unit.boundary:
            node = program.graph.by_name[port.node]
            assert port in made or port.node in batch or is_random(node.op) or node.op in READ_OPS, (unit.name, port)


@pytest.mark.parametrize(
    "make", [zoo.mlp, zoo.decayed, zoo.cnn, zoo.lstm, zoo.xception_block, zoo.branching], ids=lambda make: make.__name__
)
def test_each_unit_alone_gives_what_the_step_gave(make):
    """Compiled by itself on a CPU, a unit leaves the bits that the whole compiled step has there."""
    batch = zoo.batch_for(make)
    program = trace(zoo.made(make), batch)
    lanes = [Lane.at(name, parse_place("CPU:0"), program, 0) for name in ("reference", "candidate")]
    telescope = Telescope(program, *lanes)
    run = telescope.steps.run(0, [tf.constant(x) for x in flat_batch(batch)], with_boundaries=True)
    unit_runs = [*telescope.run_units(run, telescope.cut.units)]
    assert len(unit_runs) == len(telescope.cut.units)
    different = [
        unit_run.unit.name
        for unit_run in unit_runs
        if any(
            a.numpy().tobytes() != b.numpy().tobytes()
            for a, b in zip(unit_run.reference, unit_run.candidate, strict=True)
        )
    ]
    assert different == []


def test_random_draws_are_given_to_the_dropout_unit():
    program = trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn))
    unit = unit_of(program, "dropout")
    assert not any(is_random(node.op) for node in unit.executable.graph)
    assert set(program.random_ports) <= set(unit.boundary)


def test_inside_tensors_are_not_handed_on():
    """MatMul and BiasAdd under a relu are read by nothing outside, so that they can still be fused away."""
    program = trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn))
    unit = unit_of(program, "dense")
    handed_on = {unit.executable.graph.by_name[port.node].op for port in unit.outputs}
    inside = {node.op for node in unit.executable.graph}
    assert {"MatMul", "BiasAdd", "Relu", "ReluGrad", "BiasAddGrad"} <= inside
    assert "Relu" in handed_on
    assert "BiasAdd" not in handed_on


def test_the_loss_is_a_unit_that_hands_on_the_loss():
    program = trace(zoo.made(zoo.mlp), zoo.batch_for(zoo.mlp))
    assert program.loss in unit_of(program, LOSS_LAYER).outputs


# ---- bypasses: which ops could have been left out


def chains(unit: Unit, output: int, length: int) -> set[tuple[str, ...]]:
    return {chain for _, _, chain in bypasses(unit, output, length)}


def test_what_could_be_left_out_of_a_dense_layer():
    """From 5 to 8 features: the product itself cannot, its input has another shape."""
    unit = unit_of(trace(zoo.made(zoo.perceptron), zoo.batch_for(zoo.perceptron)), "hidden")
    forward = next(i for i, port in enumerate(unit.outputs) if unit.executable.graph.by_name[port.node].op == "Relu")
    assert chains(unit, forward, 1) == {("Relu",), ("BiasAdd",)}
    assert chains(unit, forward, 2) == {("BiasAdd", "Relu")}
    assert chains(unit, forward, 3) == set()


def test_what_goes_in_has_the_shape_of_what_comes_out():
    unit = unit_of(trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn)), "dense")
    for output in range(len(unit.outputs)):
        for length in (1, 2, 3):
            for port, source, chain in bypasses(unit, output, length):
                graph = unit.executable.graph
                assert (graph.dtype(port), graph.shape(port)) == (graph.dtype(source), graph.shape(source))
                assert len(chain) == length


def test_only_what_an_output_depends_on_could_be_left_out():
    unit = unit_of(trace(zoo.made(zoo.cnn), zoo.batch_for(zoo.cnn)), "dense")
    graph = unit.executable.graph
    (relu,) = [i for i, port in enumerate(unit.outputs) if graph.by_name[port.node].op == "Relu"]
    assert ("ReluGrad",) not in chains(unit, relu, 1)
    gradient = next(i for i, port in enumerate(unit.outputs) if graph.by_name[port.node].op == "BiasAddGrad")
    assert ("ReluGrad",) in chains(unit, gradient, 1)


def test_units_come_in_execution_order_the_same_each_time():
    program = trace(zoo.made(zoo.mlp), zoo.batch_for(zoo.mlp))
    first, second = cut_of(program), cut_of(program)
    assert [unit.name for unit in first.units] == [unit.name for unit in second.units]
    assert [unit.boundary for unit in first.units] == [unit.boundary for unit in second.units]
    assert np.all(np.diff([unit.first_index for unit in first.units]) > 0)
