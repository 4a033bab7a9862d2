"""Which changes are told beside a divergence: those of its ops, its layer, or of no layer where it has none."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from diag.engine.rewrites import around
from diag.machine.places import parse_place
from diag.report import rewrites
from diag.verdict.findings import Cause, Divergence, FusedOps, Where
from diag.verdict.rewrites import FUSED, OptimizedStep, Part, Rewrite, Rewrites


def part(layer: str | None, index: int) -> Part:
    return Part(f"op{index}", "Mul", layer, None, "forward", index)


OF_NO_LAYER, OF_DENSE = part(None, 0), part("dense", 1)
STEP = OptimizedStep(
    "CPU:0/graph",
    (),
    (Rewrite(FUSED, "_FusedMul", "a", (OF_NO_LAYER,)), Rewrite(FUSED, "_FusedMul", "b", (OF_DENSE,))),
    {"left-out": (OF_DENSE, OF_NO_LAYER)},
    num_traced=2,
    num_executed=2,
)


def divergence(layer: str | None, fused: FusedOps | None = None) -> Divergence:
    return Divergence.of(Where(0, "forward", "layer", layer), Cause(), "graph-rewriter", 9.0, fused=fused)


@pytest.fixture
def near(monkeypatch):
    """What is near a divergence, where the step became STEP."""
    monkeypatch.setattr(around, "inspect_step", lambda *given: STEP)
    program: Any = SimpleNamespace(watched=SimpleNamespace(ports=()))
    lane: Any = SimpleNamespace(place=parse_place("CPU:0/graph"))

    def found(of: Divergence) -> Rewrites:
        result = around.rewrites_around(of, program, lane)
        assert result is not None
        return result

    return found


@pytest.mark.parametrize(("layer", "op"), [(None, OF_NO_LAYER), ("dense", OF_DENSE)])
def test_the_changes_of_its_layer_or_of_no_layer_are_near(near, layer, op):
    found = near(divergence(layer))
    assert [change.parts for change in found.changes] == [(op,)]
    assert found.absent == {"left-out": (op,)}
    assert found.counts == {FUSED: 2, "left-out": 2}


def test_ops_that_are_wrong_together_count_and_not_their_layer(near):
    found = near(divergence("dense", FusedOps("Mul", (0,), ("dense",))))
    assert [change.parts for change in found.changes] == [(OF_NO_LAYER,)]


def test_no_layer_is_null_in_the_report_and_a_word_in_print(near):
    found = near(divergence(None))
    assert json.loads(json.dumps(rewrites.near_report(found)))["layers"] == [None]
    assert "None" not in " ".join(rewrites.near(found)) and "Mul of no layer (forward)" in rewrites.near(found)[1]
