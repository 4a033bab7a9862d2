"""The table of allowances: what it says, which row is chosen, and what a user may write."""

from __future__ import annotations

import pytest

from diag.numerics.allowances import PLACES, AllowanceRow, Allowances, allowance, parse, published, shipped

# NUMERICS' list of what is published, copied by hand.
EXPECTED = {
    "opencl": {"Exp": 3, "Log": 3, "Sin": 4, "Cos": 4, "Tan": 5, "Tanh": 5, "Erf": 16, "Pow": 16, "Rsqrt": 2,
               "Sqrt": 3, "Div": 2.5},
    "cuda": {"Exp": 2, "Log": 1, "Sin": 2, "Cos": 2, "Tan": 4, "Tanh": 2, "Erf": 2, "Pow": 4, "Rsqrt": 2, "Sqrt": 1},
    "xla-cpu": {"Exp": 1.5, "Log": 1.5, "Tanh": 5, "Erf": 7, "Sigmoid": 2.5, "Rsqrt": 2, "Sinh": 25},
    "xla-gpu": {"Exp": 2, "Log": 1, "Tanh": 5.5, "Erf": 6.5, "Sigmoid": 4, "Rsqrt": 2, "Sinh": 3},
    "tensorflow-cpu": {"Exp": 1, "Log": 3, "Tanh": 6, "Erf": 7, "Sigmoid": 7, "Rsqrt": 2},
}  # fmt: skip
TABLE = """
[[allowances]]
place = "metal"
dtypes = ["float32"]
source = "measured on an M2"
[allowances.ulp]
Tanh = 9
"""


@pytest.mark.parametrize(
    ("place", "op", "ulp"), [(place, op, ulp) for place, ops in EXPECTED.items() for op, ulp in ops.items()]
)
def test_the_published_figures_are_in_the_table_with_a_source(place, op, ulp):
    rows = [row for row in published(op, "float32") if row.place == place and row.basis == "published"]
    assert [row.ulp for row in rows] == [ulp] and rows[0].source


def test_a_place_that_is_not_in_the_table_gets_the_opencl_row():
    assert not [row for row in published("Atan2", "float32") if row.place == "cuda"]
    row = allowance("Atan2", "float32", "cuda")
    assert row is not None and (row.place, row.ulp) == ("opencl", 6)
    assert allowance("Conv2D", "float32", "cuda") is None
    with pytest.raises(ValueError, match="kind of place"):
        allowance("Exp", "float32", "tpu")


def test_what_was_measured_only_widens():
    here = [row.ulp for row in published("Rsqrt", "float32") if row.place == "tensorflow-cpu"]
    assert sorted(here) == [2, 4]
    row = allowance("Rsqrt", "float32", "tensorflow-cpu")
    assert row is not None and (row.ulp, row.basis) == (4, "measured")
    assert all(
        allowance(row.op_type, row.dtype, row.place).ulp >= row.ulp for row in shipped() if row.basis != "derived"
    )


def test_a_users_row_replaces_the_shipped_ones_at_its_place_alone():
    mine = Allowances(parse(TABLE, yours=True))
    assert mine.at("Tanh", "float32", "metal") == AllowanceRow(
        "Tanh", "float32", "metal", 9.0, "yours", "measured on an M2"
    )
    for place in set(PLACES) - {"metal"}:
        assert mine.at("Tanh", "float32", place) == allowance("Tanh", "float32", place)
    anywhere = Allowances(parse(TABLE.replace("metal", "opencl").replace("= 9", "= 1.5"), yours=True))
    assert {anywhere.at("Tanh", "float32", place).ulp for place in PLACES} == {1.5}
    assert anywhere.at("Tanh", "float16", "cuda").ulp == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[allowances", "not TOML"),
        ("", "one or more"),
        ("[other]\nx = 1", "one or more"),
        (TABLE.replace("metal", "mars"), "expected a place of"),
        (TABLE.replace('"float32"', '"float128"'), "expected dtypes"),
        (TABLE.replace('source = "measured on an M2"\n', ""), "expected the fields"),
        (TABLE.replace("measured on an M2", " "), "expected a source"),
        (TABLE.replace("= 9", "= 0.25"), "at least 0.5"),
        (TABLE.replace("= 9", '= "9"'), "at least 0.5"),
        (TABLE.replace("= 9", "= inf"), "at least 0.5"),
        (TABLE.replace("= 9", "= true"), "at least 0.5"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(text, says):
    with pytest.raises(ValueError, match=says) as raised:
        parse(text, yours=True)
    assert "\n" not in str(raised.value)
