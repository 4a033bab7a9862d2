"""The microscope on small steps: what a second run, an isolated run and the lanes' own values show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from diag.causes.wrong_output import EarlierExecution
from diag.engine.faults.simulation import Call, Simulation
from diag.engine.graphs.graph import node_of
from diag.engine.lanes.lane import Lane
from diag.engine.localization.explainers import OpExplainer
from diag.engine.lockstep.history import History
from diag.engine.lockstep.microscope import Microscope, OpRecord
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.engine.truth.op_judge import OpEvidence, OpJudge
from diag.machine.places import parse_place
from diag.verdict.findings import Cause, Observation, Relation, Verdict, Where
from tests import zoo

CPU = parse_place("CPU:0")


def tensors(batch: Any) -> list[Any]:
    return [tf.constant(batch.inputs), tf.constant(batch.targets)]


@pytest.fixture(scope="module")
def mlp() -> tuple[Program, list[Any]]:
    batch = zoo.batch_for(zoo.mlp)
    return trace(zoo.made(zoo.mlp), batch), tensors(batch)


class Looked:
    """One step under the microscope, with a fault at the candidate."""

    def __init__(self, program: Program, batch: list[Any], fault: Any = None) -> None:
        self.records: list[OpRecord] = []
        state = program.initial_state()
        simulation = None if fault is None else Simulation("by hand", fault)
        lanes = Lane("reference", CPU, None, state), Lane("candidate", CPU, simulation, state)
        microscope = Microscope(program, lanes, 0, explain=self._explain)
        self.found = {(o.where.op_index, o.where.output): o for o in microscope.run(batch)}

    def _explain(self, record: OpRecord) -> Observation:
        self.records.append(record)
        return record.observation

    def __getitem__(self, index: int) -> Observation:
        return self.found[index, 0]


def first(program: Program, op_type: str) -> int:
    found = next(
        node.location.index for node in program.graph if node.op == op_type and node.location.index is not None
    )
    assert found is not None
    return found


def on(index: int, change: Callable[[Call], np.ndarray | None]) -> Callable[[Call], list[np.ndarray] | None]:
    """A fault of one op."""

    def fault(call: Call) -> list[np.ndarray] | None:
        changed = change(call) if call.index == index else None
        return None if changed is None else [changed]

    return fault


def one_step_up(x: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.nextafter(x, np.float32(np.inf))
    return found


# ---- a place that agrees with itself


def test_nothing_differs_at_the_same_place(mlp):
    found = Looked(*mlp).found.values()
    assert {o.verdict for o in found} <= {Verdict.IDENTICAL, Verdict.UNJUDGED}
    assert {o.relation for o in found} == {Relation.NONE}
    assert not any(o.note == "nondeterminism" for o in found)


# ---- determinism


def counting(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Call], np.ndarray | None]:
    """Changes the result of every second call."""

    def changing(call: Call) -> np.ndarray | None:
        count = call.memory[call.index] = call.memory.get(call.index, 0) + 1
        return change(call.outputs[0]) if count % 2 else None

    return changing


def test_other_bits_in_a_second_run_are_noted_and_no_fault(mlp):
    program, batch = mlp
    index = first(program, "MatMul")
    seen = Looked(program, batch, on(index, counting(one_step_up)))
    assert (seen[index].verdict, seen[index].note) == (Verdict.ROUNDING, "nondeterminism")
    assert [o.where.op_index for o in seen.found.values() if o.note == "nondeterminism"] == [index]
    assert not seen.records


def test_the_same_bits_in_a_second_run_are_not_noted(mlp):
    program, batch = mlp
    index = first(program, "MatMul")
    seen = Looked(program, batch, on(index, lambda call: one_step_up(call.outputs[0])))
    assert (seen[index].verdict, seen[index].note) == (Verdict.ROUNDING, "")


@pytest.mark.parametrize("wrong_call", [0, 1])
def test_of_two_runs_the_wrong_one_is_the_ops_output(mlp, wrong_call):
    """One of the two is a step off, as rounding may be, the other by 1."""
    program, batch = mlp
    index = first(program, "BiasAdd")

    def change(call: Call) -> np.ndarray:
        count = call.memory[call.index] = call.memory.get(call.index, -1) + 1
        return call.outputs[0] + np.float32(1) if count % 2 == wrong_call else one_step_up(call.outputs[0])

    seen = Looked(program, batch, on(index, change))
    assert seen[index].verdict is Verdict.DIVERGENCE
    (record,) = seen.records
    right = record.evidence.reference[0]
    np.testing.assert_array_equal(record.repeated, one_step_up(right))
    np.testing.assert_array_equal(record.evidence.candidate[0], right + 1)


# ---- history


def test_an_isolated_run_remembers_nothing(mlp):
    program, batch = mlp
    index = first(program, "BiasAdd")

    def change(call: Call) -> np.ndarray | None:
        before = call.memory.get(call.index)
        call.memory[call.index] = np.array(call.outputs[0])
        return None if before is None else call.outputs[0] + np.float32(1)

    memory_of_a_step_before = on(index, change)
    simulation_memory: dict[Any, Any] = {index: np.zeros(1)}

    def fault(call: Call) -> list[np.ndarray] | None:
        if call.index == index and not call.memory and "replayed" not in simulation_memory:
            simulation_memory["replayed"] = True
            call.memory.update({index: np.zeros(1)})  # as if it had computed before
        return memory_of_a_step_before(call)

    seen = Looked(program, batch, fault)
    (record,) = seen.records
    np.testing.assert_array_equal(record.isolated, record.evidence.reference[0])
    np.testing.assert_array_equal(record.repeated, record.evidence.candidate[0])


def test_an_op_at_the_step_before(mlp):
    """Looked up by running the step again; held against what a fault took down when it ran."""
    program, batch = mlp
    taken: dict[int, tuple[list[np.ndarray], list[np.ndarray]]] = {}

    def take_down(call: Call) -> None:
        taken.setdefault(call.index, ([np.array(x) for x in call.inputs], [np.array(x) for x in call.outputs]))

    Looked(program, batch, take_down)
    history = History(CPU)
    state = [tf.identity(value) for value in program.initial_state()]
    history.remember(0, program, state, batch)
    for op_type in ("MatMul", "ReluGrad"):
        index = first(program, op_type)
        (earlier,) = history.of(index, 0, num_rows=4)
        inputs, outputs = taken[index]
        assert earlier.step == 0
        for mine, theirs in zip(earlier.inputs, inputs, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        np.testing.assert_array_equal(earlier.output, outputs[0])


def test_what_an_assignment_left_at_the_step_before(mlp):
    program, batch = mlp
    taken: dict[int, tuple[np.ndarray, np.ndarray]] = {}

    def take_down(call: Call) -> None:
        if call.op_type == "AssignSubVariableOp":
            taken.setdefault(call.index, (np.array(call.inputs[0]), np.array(call.outputs[0])))

    Looked(program, batch, take_down)
    history = History(CPU)
    history.remember(0, program, [tf.identity(value) for value in program.initial_state()], batch)
    index = min(taken)
    (earlier,) = history.of(index, 0, num_rows=4)
    np.testing.assert_array_equal(earlier.inputs[0], taken[index][0])
    np.testing.assert_array_equal(earlier.output, taken[index][1])


def test_the_last_larger_batch_is_remembered_until_one_as_large_comes(mlp):
    program, _ = mlp
    history = History(CPU)
    state = [tf.identity(value) for value in program.initial_state()]

    def remember(number: int, rows: int) -> None:
        batch = zoo.batch_for(zoo.mlp, rows)
        history.remember(number, trace(zoo.made(zoo.mlp), batch), state, tensors(batch))

    index = first(program, "MatMul")
    remember(0, 4)
    remember(1, 2)
    assert [earlier.step for earlier in history.of(index, 0, num_rows=2)] == [1, 0]
    remember(2, 4)
    assert [earlier.step for earlier in history.of(index, 0, num_rows=2)] == [2]


# ---- where a difference comes from


def test_introduced_and_inherited(mlp):
    """A relative 1e-3 in the first product: it is introduced there and handed on; what was before has none."""
    program, batch = mlp
    index = first(program, "MatMul")
    seen = Looked(program, batch, on(index, lambda call: call.outputs[0] * np.float32(1.001)))
    assert seen[index].relation is Relation.INTRODUCED
    bias = first(program, "BiasAdd")
    assert (seen[bias].relation, seen[bias].verdict) == (Relation.INHERITED, Verdict.IDENTICAL)
    assert seen[bias].inherited == pytest.approx(1e-3, rel=1e-3)
    assert seen[bias].produced == pytest.approx(1e-3, rel=0.5)
    assert all(o.relation is Relation.NONE for (i, _), o in seen.found.items() if i < index)


def test_an_op_that_is_out_of_bound_has_introduced_its_error_whatever_it_inherits(mlp):
    program, batch = mlp
    index, bias = first(program, "MatMul"), first(program, "BiasAdd")

    def fault(call: Call) -> list[np.ndarray] | None:
        if call.index == index:
            return [one_step_up(call.outputs[0])]
        return [call.outputs[0] + np.float32(1)] if call.index == bias else None

    seen = Looked(program, batch, fault)
    assert seen[bias].inherited > 0
    assert seen[bias].relation is Relation.INTRODUCED


def test_a_relu_that_flips_amplifies():
    """One logit near zero: a tiny difference decides whether the whole row has a gradient."""
    inputs = tf.keras.Input((2,))
    dense = tf.keras.layers.Dense(1, activation="relu", kernel_initializer="ones", name="only")
    model = tf.keras.Model(inputs, dense(inputs))
    model.compile("sgd", "mse", jit_compile=False)
    rows = np.array([[1.0, -1.0], [3.0, -2.0]], np.float32)  # the products are 0 and 1
    batch = Batch(rows, np.full((2, 1), 3, np.float32))
    program = trace(model, batch)
    (relu,) = [node for node in program.graph if node.op == "Relu"]
    index = program.graph.by_name[relu.inputs[0].node].location.index
    assert index is not None
    tiny = np.array([[2.0**-30], [0]], np.float32)
    seen = Looked(program, tensors(batch), on(index, lambda call: call.outputs[0] + tiny))
    gradient = seen[first(program, "ReluGrad")]
    assert gradient.relation is Relation.AMPLIFIED
    assert gradient.flipped == "1 of 2 ReLU signs"
    assert gradient.verdict is Verdict.IDENTICAL


# ---- explaining


def test_inputs_that_do_not_fit_refute_a_hypothesis_and_do_not_end_the_run():
    """A reshape to 2 rows cannot take the 4 of the step before."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    graph = tf.function(lambda v: tf.raw_ops.Reshape(tensor=v, shape=[2, 3])).get_concrete_function(
        tf.TensorSpec(x.shape)
    )
    (op,) = [op for op in graph.graph.get_operations() if op.type == "Reshape"]
    inputs = [tf.constant(x), tf.constant([2, 3])]
    evidence = OpEvidence(node_of(op), inputs, [x + 1], [x])
    judge = OpJudge()
    bound = judge.judge(evidence)[0].bound
    where = Where(1, "forward", "op", "flatten", None, "Reshape", 3)
    earlier = EarlierExecution(0, [np.ones((4, 3)), np.array([4, 3])], np.ones((4, 3)))
    seen = Observation(where, x.shape, "float32", Verdict.DIVERGENCE, bound)
    explained = OpExplainer(judge)(OpRecord(seen, evidence, 0, earlier=lambda: [earlier]))
    assert explained.cause is not None and explained.cause.name == "unknown"


def test_an_op_in_a_loop_is_told_with_its_iteration():
    batch = zoo.batch_for(zoo.lstm)
    program = trace(zoo.made(zoo.lstm), batch)

    def once_there_is_a_state(call: Call) -> list[np.ndarray] | None:
        if call.op_type == "TensorListGetItem" and call.phase == "forward" and call.outputs[0].ndim:
            return [np.roll(call.outputs[0], 1, -1)]  # what the loop takes from its list of inputs
        is_recurrent = call.op_type == "MatMul" and call.phase == "forward" and "lstm" in (call.layer or "")
        state = call.inputs[0] if is_recurrent else np.zeros(1)
        return [2 * call.outputs[0]] if state.any() and call.inputs[1].shape[1] == 4 * state.shape[1] else None

    lanes = (
        Lane("reference", CPU, None, program.initial_state()),
        Lane("candidate", CPU, Simulation("by hand", once_there_is_a_state), program.initial_state()),
    )
    microscope = Microscope(
        program, lanes, 0, explain=lambda record: replace(record.observation, cause=Cause("scaled"))
    )
    wrong = [o for o in microscope.run(tensors(batch)) if o.verdict is Verdict.DIVERGENCE]
    causes = {o.where.op_type: o.cause for o in wrong}
    assert set(causes) == {"MatMul", "TensorListGetItem"} and all(causes.values())
    assert causes["TensorListGetItem"].summary == f"first in iteration 0 of the {zoo.LENGTH}"
    assert causes["MatMul"].summary == f"first in iteration 1 of the {zoo.LENGTH}"
    assert causes["MatMul"].facts == {"iteration": 1, "iterations": zoo.LENGTH}


def test_what_stands_for_a_branch_that_was_not_taken_is_no_result(mlp):
    """Under XLA a conditional's other branch gives FakeParam, memory that nobody wrote."""
    program, _ = mlp
    graph = tf.function(lambda: tf.raw_ops.FakeParam(dtype=tf.float32, shape=[4])).get_concrete_function().graph
    (op,) = [op for op in graph.get_operations() if op.type == "FakeParam"]
    node = replace(node_of(op), location=replace(node_of(op).location, index=0))
    lanes = [Lane(name, CPU, None, program.initial_state()) for name in ("reference", "candidate")]
    microscope = Microscope(program, (lanes[0], lanes[1]), 0, truth_everywhere=True)
    (value,) = microscope.compute(node, [])
    assert value.own is None and not microscope.observations
