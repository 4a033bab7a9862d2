"""The ladder: observations made by hand, one rung after the other."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from diag.numerics.figures import Bound
from diag.numerics.op_classes import ErrorClass
from diag.verdict.findings import NORMWISE, Cause, Divergence, Observation, Verdict, Where
from diag.verdict.ladder import (
    amplifiers_in,
    blame_of_layer,
    blame_of_op,
    first_difference,
    first_nonfinite,
    implicated,
    overall,
    unexplained_layers,
)


def seen(
    unit: str = "layer", layer: str | None = "dense", phase: str = "forward", order: int = 0, **more: Any
) -> Observation:
    verdict = more.pop("verdict", Verdict.DIVERGENCE)
    relative = more.pop("relative", None)
    nonfinite = more.pop("nonfinite", False)
    where = Where(more.pop("step", 0), phase, unit, layer, order=order, **more)
    pair: Any = None if relative is None else SimpleNamespace(normwise_relative_error=relative, num_unequal=1)
    excess = 5.0 if verdict is Verdict.DIVERGENCE else 0.1
    bound = Bound(ErrorClass.COMPOSITE, excess, 1.0, 1.0, "by hand")
    return Observation(where, (2,), "float32", verdict, bound, pair, became_nonfinite=nonfinite)


def op(op_type: str = "MatMul", **more: Any) -> Observation:
    return seen("op", op_type=op_type, **more)


# ---- the verdict


@pytest.mark.parametrize(
    ("diverges", "differs", "verdict"),
    [(True, True, "divergence"), (True, False, "divergence"), (False, True, "rounding"), (False, False, "identical")],
)
def test_overall(diverges, differs, verdict):
    found = [Divergence(seen().where, "unknown", "kernel", 2.0)] if diverges else []
    assert overall(found, differs) == verdict


# ---- the blame


@pytest.mark.parametrize(
    ("cause", "op_type", "blame"),
    [
        ("format:tf32-rne", "MatMul", "kernel"),
        ("unknown", "Relu", "kernel"),
        ("random-stream", "RandomUniform", "random-stream"),
        ("skipped-update", "AssignSubVariableOp", "state-update"),
        ("scaled", "AssignSubVariableOp", "state-update"),
    ],
)
def test_an_op_wrong_by_itself(cause, op_type, blame):
    assert blame_of_op(Cause(cause), op(op_type)) == blame


@pytest.mark.parametrize(("execution", "blame"), [("graph", "graph-rewriter"), ("xla", "xla"), ("eager", "kernel")])
def test_a_layer_wrong_although_its_ops_are_right(execution, blame):
    assert blame_of_layer("missing-op", execution) == blame
    assert blame_of_layer("random-stream", execution) == "random-stream"


@pytest.mark.parametrize("execution", ["graph", "xla"])
def test_what_no_graph_can_say_a_kernel_did(execution):
    """There is no op that rounds to TF32; there are casts to bfloat16."""
    assert blame_of_layer("format:tf32-rz", execution) == blame_of_layer("accumulate:fp16", execution) == "kernel"
    assert blame_of_layer("format:bf16", execution) != "kernel"


# ---- what no guilty op explains


INSIDE, ELSEWHERE = 3, 7


def own_ops(observation):
    """The unit of layer `dense` holds op 3 and no other; other units hold other ops."""
    return {INSIDE} if observation.where.layer == "dense" else {100}


def test_a_guilty_op_explains_its_own_layer_only():
    dense, other = seen(order=1), seen(layer="other", order=2)
    assert unexplained_layers([dense, other], [op(op_index=INSIDE)], own_ops) == [other]
    assert unexplained_layers([dense, other], [op(op_index=ELSEWHERE)], own_ops) == [dense, other]
    assert unexplained_layers([dense, other], [], own_ops) == [dense, other]


def test_a_guilty_op_of_the_backward_pass_does_not_explain_the_forward_pass():
    forward, backward = seen(), seen(phase="backward", order=9)
    assert unexplained_layers([forward], [op(phase="backward", op_index=INSIDE)], own_ops) == [forward]
    assert unexplained_layers([backward], [op(phase="backward", op_index=INSIDE)], own_ops) == []
    assert unexplained_layers([backward], [op(phase="forward", op_index=INSIDE)], own_ops) == []


def test_an_op_that_is_right_in_norm_explains_a_little():
    """A row that a kernel lost was right in norm, and its layer off by a million times its bound."""
    in_norm = replace(op(op_index=INSIDE), note=NORMWISE)
    little, much = (replace(seen(), bound=replace(seen().bound, excess=excess)) for excess in (2.0, 1e6))
    assert unexplained_layers([little], [in_norm], own_ops) == []
    assert unexplained_layers([much], [in_norm], own_ops) == [much]
    assert unexplained_layers([much], [replace(in_norm, note="")], own_ops) == []


def test_an_op_in_a_branch_explains_the_unit_that_holds_the_branch():
    """Loss scaling puts every variable's update into a branch of the unit `optimizer`."""
    unit = seen(layer="optimizer", phase="optimizer")
    update = op("AssignSubVariableOp", layer="dense", variable="dense/kernel", phase="optimizer", op_index=INSIDE)
    assert unexplained_layers([unit], [update], lambda observation: {INSIDE}) == []


def test_of_one_layer_the_first_output_is_named():
    late, early = seen(phase="backward", order=1), seen(phase="forward", order=5)
    assert unexplained_layers([late, early], [], own_ops) == [early]


def test_the_step_is_named_only_where_no_layer_is():
    step, layer = seen("step", layer=None), seen(order=3)
    assert unexplained_layers([step, layer], [], own_ops) == [layer]
    assert unexplained_layers([step], [], own_ops) == [step]


# ---- an op that nothing can judge by itself


def unjudged(relative: float, inherited: float = 0.0, **more: Any) -> Observation:
    made = op("ResizeBilinear", op_index=INSIDE, relative=relative, verdict=Verdict.UNJUDGED, **more)
    return replace(made, inherited=inherited)


def test_an_op_without_truth_that_makes_a_difference_is_named_for_its_layer():
    later, first = unjudged(0.3, order=2), unjudged(0.5, order=1)
    assert implicated(seen(), [later, first], {INSIDE}) is first


def test_an_op_without_truth_that_makes_no_more_than_rounding_is_not():
    """Six roundings of 2^-24, or as much as came in; a hundred times that is something else."""
    assert implicated(seen(), [unjudged(6 * 2.0**-24)], {INSIDE}) is None
    assert implicated(seen(), [unjudged(1e-3, inherited=1e-3)], {INSIDE}) is None
    made = unjudged(1e-3, inherited=1e-5)
    assert implicated(seen(), [made], {INSIDE}) is made


def test_neither_judged_ops_nor_those_of_another_layer_or_a_later_phase_are_implicated():
    right = op(op_index=INSIDE, relative=0.5, verdict=Verdict.ROUNDING)
    assert implicated(seen(), [right], {INSIDE}) is None
    assert implicated(seen(), [unjudged(0.5)], {ELSEWHERE}) is None
    assert implicated(seen(), [unjudged(0.5, phase="backward")], {INSIDE}) is None
    assert implicated(seen(phase="backward"), [unjudged(0.5)], {INSIDE}) is not None


def test_an_op_without_truth_that_is_not_finite_is_implicated():
    made = unjudged(math.nan)
    assert implicated(seen(), [made], {INSIDE}) is made


# ---- firsts


def test_the_first_difference_is_first_in_execution_order():
    unit_alone = seen(verdict=Verdict.ROUNDING)  # of which the lanes' own values were not seen
    optimizer = seen(phase="optimizer", order=1, relative=1e-7, verdict=Verdict.ROUNDING)
    backward = seen(phase="backward", order=7, relative=1e-7, verdict=Verdict.ROUNDING)
    later = seen(step=1, order=0, relative=1e-7)
    assert first_difference([later, optimizer, backward, unit_alone]) is backward
    assert first_difference([unit_alone]) is None


def test_the_first_output_that_became_nonfinite():
    inherited, made = seen(order=1), seen(order=2, nonfinite=True)
    assert first_nonfinite([seen(order=3, nonfinite=True), made, inherited]) is made
    assert first_nonfinite([inherited]) is None


# ---- amplifiers


def test_an_innocent_unit_that_makes_a_difference_larger_is_an_amplifier():
    quiet = seen(relative=1e-7, verdict=Verdict.ROUNDING)
    loud = seen(layer="pool", relative=1e-3, verdict=Verdict.ROUNDING)
    after = seen(layer="after", relative=2e-3, verdict=Verdict.ROUNDING)
    (found,) = amplifiers_in([quiet, loud, after])
    assert (found.observation, found.inherited, found.produced) == (loud, 1e-7, 1e-3)
    assert math.isclose(found.factor, 1e4)


def test_neither_a_guilty_unit_nor_the_first_difference_is_an_amplifier():
    none = seen(relative=0.0, verdict=Verdict.IDENTICAL)
    small = seen(relative=1e-7, verdict=Verdict.ROUNDING)
    large = seen(layer="next", relative=1e-3)
    assert amplifiers_in([none, seen(relative=1e-3, verdict=Verdict.ROUNDING)]) == []
    assert amplifiers_in([small, large]) == []
    assert amplifiers_in([small, seen(relative=1e-3, phase="optimizer", verdict=Verdict.ROUNDING)]) == []
