"""A divergence comes back from report.json as it was written there."""

from __future__ import annotations

import json
import math

import pytest

from diag.verdict.findings import Cause, Divergence, FusedOps, Where

UPDATE = Where(2, "optimizer", "layer", "dense", "dense/kernel", output=1)
OP = Where(0, "forward", "op", "conv", None, "Conv2D", 7)
TOGETHER = FusedOps("MatMul+BiasAdd+Relu", (3, 4, 5), ("first", "relu"), ("MatMul",))


@pytest.mark.parametrize(
    "divergence",
    [
        Divergence.of(UPDATE, Cause("scaled", "0.9 times what is right", {"factor": 0.9}), "kernel", math.inf),
        Divergence.of(OP, Cause(), "kernel", 290.0, ("tf32=off",)),
        Divergence.of(Where(1, "forward", "layer", "relu"), Cause("missing-op"), "xla", 9.5, (), TOGETHER),
        Divergence.of(Where(1, "forward", "step", None), Cause(), "graph-rewriter", 2.0, (), FusedOps()),
    ],
)
def test_a_divergence_comes_back_from_its_report(divergence):
    document = json.loads(json.dumps(divergence.to_dict()))
    back = Divergence.from_dict(document)
    assert back.to_dict() == document
    assert back.where == divergence.where and back.summary == divergence.summary
    assert back.fused == (divergence.fused or FusedOps())
