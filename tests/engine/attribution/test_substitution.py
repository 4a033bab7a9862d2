"""Training with one unit substituted; the fault is the test's own and knows its layer."""

from __future__ import annotations

import numpy as np
import pytest

from diag.engine.attribution.substitution import substitute, unit_named
from diag.engine.step.tracing import trace
from diag.errors import UserError
from diag.machine.places import parse_place
from diag.options import substituted
from diag.verdict.substitution import SubstitutionOutcome
from tests.zoo import batch_for, made, mlp

FAULTS = """
def op_fault(call):
    return [call.outputs[0] * 1.1] if (call.layer, call.op_type) == ("dense_1", "Tanh") else None

def rewriter(graph):
    for node in graph.node:
        if node.op == "Relu":
            node.op = "Identity"
"""
STEPS = range(4)


@pytest.fixture(scope="module")
def program():
    return trace(made(mlp), batch_for(mlp))


@pytest.fixture(scope="module")
def train(program, tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "faults.py"
    path.write_text(FAULTS)
    batches = [batch_for(mlp, seed=step) for step in STEPS]

    def ask(name: str, place: str):
        places = (parse_place("CPU:0"), parse_place(place.format(path)))
        return substitute(name, lambda batch: program, batches, places, STEPS, 0)

    return ask


def test_the_layer_at_fault_restores_the_loss(train):
    found = train("dense", "rewrite:{}:rewriter")
    assert found.outcome is SubstitutionOutcome.RESTORED
    assert found.substituted == found.reference  # both are the CPU's own
    assert not np.allclose(found.candidate, found.reference, rtol=1e-3)


def test_another_layer_does_not(train):
    found = train("dense_1", "rewrite:{}:rewriter")
    assert found.outcome is SubstitutionOutcome.NOT_RESTORED
    assert found.substituted == found.candidate


def test_one_op_of_an_op_fault_restores_it_in_eager_execution(train, program):
    index = next(node.location.index for node in program.ops if node.op == "Tanh")
    found = train(f"op:{index}", "sim:{}:op_fault/eager")
    assert found.num_ops == 1
    assert found.outcome is SubstitutionOutcome.RESTORED


@pytest.mark.parametrize("name", ["dens", "op:100000"])
def test_a_unit_that_is_not_there_is_refused(program, name):
    with pytest.raises(UserError, match=f"--substitute {name}: the step has"):
        unit_named(name, program)


@pytest.mark.parametrize("text", ["dense", "dense=candidate", "=reference", "op:x=reference"])
def test_a_substitution_is_written_one_way(text):
    with pytest.raises(UserError, match="expected"):
        substituted(text)
