"""What the controls say of an excess; the file of them is the one that is shipped."""

from __future__ import annotations

import math
import sys
from importlib import resources

import pytest

from benchmarks.significance import sample_of
from diag.report.words import chance_text
from diag.verdict.findings import Divergence, Where
from diag.verdict.significance import DATA, Significance, family_of, significance

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OP = Where(0, "forward", "op", "dense", None, "MatMul", 7)
LAYER = Where(0, "backward", "layer", "dense")
SHIPPED = tomllib.loads(resources.files("diag").joinpath(DATA).read_text())


def divergence(where: Where, excess: float, cause: str = "unknown") -> Divergence:
    return Divergence(where, cause, "kernel", excess)


def test_families():
    assert [family_of(each) for each in (OP, LAYER, Where(0, "forward", "step", None))] == [
        "contraction",
        "layer",
        "step",
    ]


@pytest.mark.parametrize(("where", "family"), [(OP, "contraction"), (LAYER, "layer")])
def test_a_chance_is_what_the_shipped_controls_support(where, family):
    largest = SHIPPED["families"][family]["largest"]
    beyond = significance(divergence(where, 1e5))
    assert beyond is not None and (beyond.num_as_far, beyond.num_controls) == (0, len(largest))
    assert beyond.p == 1 / (len(largest) + 1)
    assert beyond.extrapolated is None or beyond.extrapolated <= beyond.p
    within = significance(divergence(where, largest[len(largest) // 2]))
    assert within is not None and 0.4 < within.p < 0.7 and within.extrapolated is None


def test_no_chance_of_what_has_no_excess():
    assert significance(divergence(OP, math.inf, "random-stream")) is None


def test_no_control_is_out_of_its_bound():
    assert max(max(record["largest"]) for record in SHIPPED["families"].values()) <= 1.0
    assert all(record["largest"] == sorted(record["largest"]) for record in SHIPPED["families"].values())


def test_the_tail_that_is_fitted_has_the_mean_of_an_exponential():
    values = [-math.log(1 - (k + 0.5) / 400) for k in range(400)]
    tail = sample_of(values).tail
    assert tail is not None
    assert tail.chance(10.0) == pytest.approx(math.exp(-10), rel=1.5)
    assert tail.threshold == pytest.approx(math.log(5), rel=0.02)


def test_in_words():
    assert chance_text(Significance(0.2, 9, 49)) == "20%: in 9 of 49 controls an error of its kind came as far"
    beyond = Significance(0.02, 0, 49, 1e-12)
    assert chance_text(beyond) == (
        "below 1 in 49: in none of 49 controls did an error of its kind come as far; by their tail, extrapolated, "
        "below 1e-12"
    )
