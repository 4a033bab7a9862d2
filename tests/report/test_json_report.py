"""The contract lockstep-report/1: exact keys, nothing that JSON has not, no half-written file."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag import __version__
from diag.common.files import write_json
from diag.common.jsonable import json_safe, to_text
from diag.errors import UserError
from diag.numerics.statistics import compare
from diag.report import json_report
from diag.report.json_report import report
from diag.verdict.drift import Drift
from diag.verdict.findings import Divergence, Observation, Verdict, Where
from diag.verdict.result import Amplifier, Judged, LaneInfo, RunResult, as_notes
from tests.report.schema import SCHEMA_FILE, generated, refuse_other_reports

KEYS = {
    "schema", "verdict", "first_divergence", "divergences", "first_bit_difference", "first_nonfinite",
    "amplifiers", "steps", "lanes", "files", "tool", "notes",
}  # fmt: skip
PLACE_KEYS = {"step", "phase", "unit", "op_type", "op_index", "output", "layer", "variable"}
DIVERGENCE_KEYS = PLACE_KEYS | {"cause", "blame", "excess", "cured_by", "evidence"}

WHERE = Where(3, "backward", "op", "conv2d_1", "conv2d_1/kernel", "Conv2DBackpropFilter", 136, name="filter")


def observation(reference=(1.0, 2.0, 3.0), candidate=(1.0, 2.0000002, math.nan), dtype=np.float32):
    pair = compare(np.array(reference, dtype), np.array(candidate, dtype))
    return Observation(WHERE, (3,), "float32", Verdict.DIVERGENCE, propagated=pair)


def result(**changes):
    evidence = {"figure": np.float32(math.inf), "mask": np.array([True, False]), (1, 2): {np.int64(3)}}
    divergence = Divergence(WHERE, "format:tf32-rne", "kernel", math.inf, ("tf32=off",), evidence)
    whole = {
        "verdict": "divergence",
        "first_divergence": divergence,
        "divergences": (divergence,),
        "first_bit_difference": observation(),
        "first_nonfinite": observation(),
        "amplifiers": (Amplifier(observation(), 1e-7, 1e-3),),
        "steps": 2,
        "lanes": (
            LaneInfo("reference", "CPU:0/graph", False, {"tensorflow": "2.21.0", "place": "overridden"}),
            LaneInfo("candidate", "sim:tf32/graph", True, {"tf32": np.bool_(True), "plugin": Path("/a")}),
        ),
        "losses": {"reference": [0.5, np.float32(0.25)], "candidate": [math.nan, -math.inf]},
        "path": (),
        "microscope": (),
        "worst": (),
        "judged": Judged(34, 812, 3, (0,), ("TopKV2",), ("RandomUniform",)),
        "notes": as_notes(["a note"]),
        "files": {"trace": Path("runs/trace.h5")},
    }
    return RunResult(**{**whole, **changes})


def strict(contents):
    """As another program reads it: a constant such as NaN is refused."""

    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(to_text(contents), parse_constant=refuse)


CLEAN = {"verdict": "identical", "first_divergence": None, "divergences": (), "first_bit_difference": None,
         "first_nonfinite": None, "amplifiers": ()}  # fmt: skip


@pytest.mark.parametrize("changes", [{}, CLEAN], ids=["divergence", "identical"])
def test_top_level_keys_are_those_of_the_contract(changes):
    found = strict(report(result(**changes)))
    assert set(found) == KEYS
    assert found["schema"] == "lockstep-report/1"
    assert found["tool"] == {"name": "tf-lockstep", "version": __version__}
    assert found["notes"] == [{"kind": "note", "text": "a note"}]


def test_what_is_known_of_the_run_and_its_units_is_told():
    known = {"command": ("python", "-m", "x"), "created": "2026-11-27T22:00:00+00:00", "seconds": 1.5, "model": "cnn"}
    unjudged = Observation(WHERE, (3,), "float32", Verdict.UNJUDGED)
    found = strict(report(result(**known, path=(observation(), unjudged), worst=(observation(),))))
    assert {name: found[name] for name in known} == {**known, "command": ["python", "-m", "x"]} and "data" not in found
    (unit, other), (worst,) = found["path"], found["worst"]
    assert unit == worst and set(unit) == PLACE_KEYS | {
        "name", "verdict", "excess", "difference", "max_ulp", "index", "values",
    }  # fmt: skip
    assert (unit["index"], unit["values"], unit["excess"]) == ([2], {"reference": 3.0, "candidate": "nan"}, None)
    assert other["difference"] is other["values"] is None and other["verdict"] == "unjudged"


def test_the_schema_that_is_checked_in_is_that_of_the_records():
    assert SCHEMA_FILE.read_text() == generated(), "python -m tests.report.schema writes it again"


@pytest.mark.parametrize("change", [{"verdict": "maybe"}, {"steps": "two"}, {"more": 1}, {"path": [{"step": 0}]}])
def test_a_report_that_breaks_the_contract_is_found(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        refuse_other_reports({**report(result()), **change})


def test_every_report_of_a_test_is_held_against_the_contract():
    with pytest.raises(ValueError, match="verdict"):
        json_report.report(result(verdict="maybe"))


def test_nothing_found_is_null():
    found = strict(report(result(**CLEAN)))
    assert found["first_divergence"] is found["first_bit_difference"] is found["first_nonfinite"] is None
    assert found["divergences"] == found["amplifiers"] == []


def test_divergence():
    found = strict(report(result()))
    assert found["divergences"] == [found["first_divergence"]]
    first = found["first_divergence"]
    assert set(first) == DIVERGENCE_KEYS
    assert first["op_type"] == "Conv2DBackpropFilter" and first["op_index"] == 136
    assert first["excess"] == "inf" and first["cured_by"] == ["tf32=off"]
    evidence = {"figure": "inf", "mask": [True, False], "(1, 2)": [3]}
    assert evidence.items() <= first["evidence"].items() and set(first["evidence"]) - set(evidence) == {"p_rounding"}


def test_drift_is_there_only_where_some_was_found():
    drift = Drift("candidate", ("AddV2", "Mul"), "towards zero", 41, 41, -0.002, -0.25, 3e-13)
    assert "drift" not in report(result())
    (found,) = strict(report(result(**CLEAN, drift=(drift,))))["drift"]
    assert found["sentence"] == (
        "Drift: every AddV2 and Mul of the candidate rounds towards zero: mean error -0.25 ULP over 41 ops, of the "
        "reference -0.002; chance below 1e-12."
    )
    assert found["mean_error_ulp"] == {"reference": -0.002, "candidate": -0.25}


def test_first_bit_difference_and_first_nonfinite():
    found = strict(report(result()))
    assert set(found["first_nonfinite"]) == PLACE_KEYS
    difference = found["first_bit_difference"]
    assert set(difference) == PLACE_KEYS | {
        "num_unequal", "num_zero_sign", "size", "max_ulp", "normwise_relative_error", "worst_index", "values",
    }  # fmt: skip
    assert (difference["num_unequal"], difference["size"], difference["max_ulp"]) == (2, 3, 1)
    assert difference["worst_index"] == [2] and difference["values"] == {"reference": 3.0, "candidate": "nan"}


def test_integers_have_no_ulp():
    difference = report(result(first_bit_difference=observation((1, 2), (1, 3), np.int32)))["first_bit_difference"]
    assert difference["max_ulp"] == "nan" and difference["num_unequal"] == 1


def test_tensors_of_different_shapes_were_not_compared():
    unseen = Observation(WHERE, (3,), "float32", Verdict.UNJUDGED)
    assert set(report(result(first_bit_difference=unseen))["first_bit_difference"]) == PLACE_KEYS


def test_lanes():
    lanes = strict(report(result()))["lanes"]
    assert lanes["reference"] == {
        "place": "CPU:0/graph", "simulated": False, "tensorflow": "2.21.0", "loss": [0.5, 0.25]
    }  # fmt: skip
    assert lanes["candidate"] == {
        "place": "sim:tf32/graph", "simulated": True, "tf32": True, "plugin": "/a", "loss": ["nan", "-inf"],
        "judged": {"layer_outputs": 34, "op_outputs": 812, "unjudged": 3, "microscope_steps": [0],
                   "fallback_ops": ["TopKV2"], "unjudged_ops": ["RandomUniform"], "benign": [], "inconclusive": [],
                   "reference_less_accurate": None},
    }  # fmt: skip


def test_amplifiers():
    (amplifier,) = strict(report(result()))["amplifiers"]
    assert set(amplifier) == PLACE_KEYS | {"inherited", "produced", "factor", "flipped"}
    assert amplifier["factor"] == pytest.approx(1e4)


WEIRD = st.one_of(
    st.floats(),
    st.floats(width=32).map(np.float32),
    st.floats(width=16).map(np.float16),
    st.floats(width=16).map(ml_dtypes.bfloat16),
    st.floats().map(np.longdouble),
    st.floats().map(np.array),
    st.lists(st.floats(width=32), max_size=3).map(lambda values: np.array([values], np.float32)),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.complex_numbers().map(np.complex128),
    st.complex_numbers(),
    st.booleans().map(np.bool_),
    st.binary(max_size=3),
    st.text(max_size=3).map(np.str_),
    st.sampled_from(Verdict),
    st.none(),
)


@given(st.recursive(WEIRD, lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.integers(), inner)))
def test_everything_becomes_json(value):
    assert strict({"value": json_safe(value)})["value"] == json_safe(value)


@given(st.floats(width=32))
def test_every_float_is_read_back(value):
    for number in (value, np.float32(value), np.array(value, np.float32)):
        read = float(strict({"value": json_safe(number)})["value"])
        assert read == value or (math.isnan(read) and math.isnan(value))


def test_figures_and_dataclasses_keep_their_names():
    found = json_safe({"statistics": observation().propagated, "judged": Judged()})
    assert found["statistics"]["num_unequal"] == 2 and found["judged"]["layer_outputs"] == 0


def test_write(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, report(result()))
    write_json(path, report(result(**CLEAN)))
    assert json.loads(path.read_text())["verdict"] == "identical"
    assert os.listdir(tmp_path) == ["report.json"]


def test_what_cannot_be_json_leaves_the_old_report_whole(tmp_path):
    path = tmp_path / "report.json"
    write_json(path, report(result()))
    before = path.read_text()
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"excess": math.nan})
    assert path.read_text() == before and os.listdir(tmp_path) == ["report.json"]


def test_a_failure_while_writing_leaves_the_old_report_whole(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    write_json(path, report(result()))
    before = path.read_text()

    def no_room(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(UserError, match="No space left on device"):
        write_json(path, report(result(**CLEAN)))
    assert path.read_text() == before and os.listdir(tmp_path) == ["report.json"]


@pytest.mark.parametrize("parent", ["missing", "file"])
def test_a_folder_that_is_none_is_a_users_error(tmp_path, parent):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"report\.json: N.*choose another output folder"):
        write_json(tmp_path / parent / "report.json", report(result()))
