"""`show`: figures of one tensor, its worst elements and bits, and rows of the tables."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.views.inspection import bar_of
from traces.writer import TraceWriter


def hex_of(value: float) -> str:
    return "0x" + struct.pack(">f", value).hex()


def shown(run, *arguments: object) -> dict:
    document = run("show", *arguments, "--json").document
    assert document["schema"] == "lockstep-trace-show/1"
    (tensor,) = document["tensors"]
    return tensor


def test_each_lane_by_itself(run, small: Path) -> None:
    reference, candidate = shown(run, small, "activations/dense@0")["statistics"]
    assert (reference["lane"], reference["num_nan"], reference["num_inf"]) == ("reference", 2, 1)
    assert (reference["num_subnormal"], reference["num_zero"]) == (1, 1)
    assert (reference["minimum"], reference["maximum"]) == (-8, 3)
    assert (candidate["lane"], candidate["num_nan"], candidate["num_inf"], candidate["maximum"]) == (
        "candidate",
        1,
        0,
        7,
    )


def test_one_lane_against_the_other(run, small: Path) -> None:
    found = shown(run, small, "activations/dense@0")["compared"]
    # 3, 1 and 5 ULP; infinity against 5; NaN against 7. Equal: 3, the subnormal, NaN against NaN, the zeros.
    assert (found["size"], found["num_unequal"], found["num_zero_sign"]) == (9, 5, 1)
    assert (found["max"], found["num_compared"], found["mean"]) == (5, 6, (3 + 1 + 5) / 6)
    assert found["histogram"] == {"0": 3, "2^0": 1, "2^1": 1, "2^2": 1}
    assert (found["classes"]["nan_number"], found["classes"]["inf_finite"], found["classes"]["nan_nan"]) == (1, 1, 1)


def test_the_worst_elements_with_both_values_bits_and_index(run, small: Path) -> None:
    found = shown(run, small, "activations/dense@0", "--worst", 4)["elements"]
    assert [(each["index"], each["ulp"]) for each in found] == [
        ([1, 2], None),
        ([2, 0], None),
        ([2, 2], 5),
        ([0, 0], 3),
    ]
    assert [value["text"] for value in found[0]["values"]] == ["inf", "5.0"]
    assert [value["bits"] for value in found[3]["values"]] == ["3f800000", "3f800003"]


def test_the_text_has_them_too(run, small: Path) -> None:
    done = run("show", small, "activations/dense@0")
    row = done.line_of("[2, 2]").split()
    assert row[-5:] == ["-8.0", "-8.000005", "5", hex_of(-8), "0xc1000005"]
    assert done.line_of("NaN in one").split("  ")[-1].strip().startswith("NaN in both 1, NaN in one 1")
    assert "5 of 9 elements differ (55.6%), and 1 in the sign of zero" in done.out
    bins = [line.split("  ") for line in done.lines if line[-1:] in "█▎▍▌▋▊▉▏" and line]
    assert [each[0].strip() for each in bins] == ["0", "1", "2 to 3", "4 to 7"]
    assert done.line_of("4 to 7").split()[:5] == ["4", "to", "7", "1", "17%"]
    assert "judged    forward, layer:output: rounding, excess 0.25" in done.out


@pytest.mark.parametrize("width", ["80", "120"])
def test_the_text_keeps_to_the_terminal(run, small: Path, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    done = run("show", small, "activations/dense*@0")
    kept = [line for line in done.lines if not line.startswith("  python")]
    assert max(map(len, kept)) <= int(width)
    assert "0x3f800003" in done.out


def test_bars_are_in_eighths_and_never_vanish() -> None:
    assert [bar_of(share, 4) for share in (1.0, 0.5, 0.53125, 1e-9, 0.0)] == ["████", "██", "██▏", "▏", ""]


def test_without_a_step_it_is_the_worst_that_is_kept(run, small: Path) -> None:
    assert shown(run, small, "gradients/dense/kernel")["step"] == 2  # excess 0.7
    assert shown(run, small, "activations/dense")["step"] == 2
    assert shown(run, small, "gradients/dense_1/kernel")["step"] == 0  # nothing judged: the first that is kept


def test_a_step_that_keeps_no_value_says_what_the_checksums_say(run, small: Path) -> None:
    found = shown(run, small, "activations/dense@1")
    assert (found["statistics"], found["compared"], found["elements"]) == ([], None, [])
    reference, candidate = found["checksums"].values()
    assert reference == candidate and int(reference, 16) > 0
    assert "no value of reference and candidate is stored" in found["not_compared"]
    assert ": the same bits" in run("show", small, "activations/dense@1").out


def test_one_lane_alone(run, small: Path) -> None:
    for given in (("activations/dense@0:candidate",), ("activations/dense@0", "--lane", "candidate")):
        found = shown(run, small, *given)
        assert (found["lanes"], found["compared"]) == (["candidate"], None)
        assert found["elements"][0]["index"] == [1, 1]  # its NaN
        assert found["elements"][0]["values"][0]["bits"] == "7fc00001"


def test_lanes_may_be_turned_around(run, small: Path) -> None:
    there = shown(run, small, "gradients/dense/kernel@2")["compared"]["bias"]
    back = shown(run, small, "gradients/dense/kernel@2", "--lanes", "candidate,reference")["compared"]["bias"]
    assert (there, back) == (2, -2)


def test_integers_bfloat16_batches_and_snapshots(run, small: Path) -> None:
    tokens = shown(run, small, "activations/tokens@0")
    assert [(each["index"], each["ulp"]) for each in tokens["elements"]] == [([3], None), ([1], None)]
    assert tokens["compared"]["max_absolute_difference"] == 9
    assert shown(run, small, "activations/dense_1@0")["statistics"][0]["dtype"] == "bfloat16"
    batch = shown(run, small, "batches/inputs@2")
    assert (batch["lanes"], batch["statistics"][0]["mean"]) == ([""], 0.5)
    state = shown(run, small, "snapshots/dense/kernel@0")
    assert (state["compared"]["num_unequal"], state["statistics"][1]["maximum"]) == (0, 5)


def test_several_tensors(run, small: Path) -> None:
    found = run("show", small, "gradients/*@0-1", "--json").document
    assert [tensor["address"] for tensor in found["tensors"]] == [
        "gradients/dense/kernel@0",
        "gradients/dense/kernel@1",
        "gradients/dense_1/kernel@0",
        "gradients/dense_1/kernel@1",
    ]
    many = run("show", small, "*@0-2", "--json").document
    assert (len(many["tensors"]), many["num_hidden"]) == (8, 14)  # 6 of each step, a batch of each, one snapshot
    assert len(run("show", small, "*@0-2", "--all", "--json").document["tensors"]) == 22


def test_an_op_by_its_index(run, small: Path) -> None:
    found = run("show", small, "--op", 7, "--json").document
    assert found["schema"] == "lockstep-trace-rows/1"
    (row,) = found["rows"]
    assert (row["op_type"], row["excess"], row["bound"], row["local_max"], row["propagated_max"]) == (
        "MatMul", 611.0, 16.0, 9776.0, "nan",
    )  # fmt: skip
    text = run("show", small, "--op", 7, "--step", 2)
    assert "divergence, excess 611 over a bound of 16" in text.out
    assert text.line_of("max   ").split() == ["max", "0.5", "9,776", "-"]


def test_the_worst_rows_of_a_table(run, small: Path) -> None:
    found = run("show", small, "units", "--worst", 2, "--json").document
    assert [(row["excess"], row["step"]) for row in found["rows"]] == [(40.0, 2), (0.7, 2)]
    assert found["num_rows"] == 12
    text = run("show", small, "ops")
    rows = [line.split() for line in text.lines if " op " in line]
    assert [(row[0], row[3:5]) for row in rows] == [("611", ["op", "7"]), ("0.03", ["op", "9"]), ("0", ["op", "8"])]


@pytest.mark.parametrize(("path", "count"), [("ops/loss", 1), ("ops/Re*", 1), ("units/dense@0-1", 6), ("units@2", 4)])
def test_rows_are_chosen_by_layer_type_and_step(run, small: Path, path: str, count: int) -> None:
    assert len(run("show", small, path, "--json").document["rows"]) == count


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "either a PATH, such as activations/dense@3 or ops, or --op I"),
        (("ops", "--op", "7"), "either a PATH"),
        (("--op", "99"), "no op 99; it holds ops 7-9"),
        (("--op", "7", "--step", "0"), "no step 0; the trace holds op 7 at steps 2"),
        (("ops/pool",), "no row that 'ops/pool' matches"),
        (("activations/dens",), "did you mean activations/dense"),
        (("activations/dense@7",), "no step 7"),
        (("activations/dense@0:twin",), "names no lane"),
        (("activations/dense@0", "--lanes", "a,b,c"), "'a,b,c' are not known"),
        (("snapshots/dense/kernel@2",), "no step 2; the trace holds snapshots before steps 0"),
    ],
)
def test_what_cannot_be_shown(refused, small: Path, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in refused("show", small, *arguments)


def test_a_lane_that_has_no_such_tensor(refused, tmp_path: Path) -> None:
    layout = TraceLayout(tensors=(TensorSpec("pool", (1,), "float32", "reference", "activations"),))
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as trace:
        losses = {"reference": 1.0, "candidate": 1.0}
        trace.append_step(StepRecord(0, 0, losses, {("reference", "activations", "pool"): np.ones(1, np.float32)}))
    for command in ("show", "ls"):
        assert "'pool' has no lane 'candidate'" in refused(command, tmp_path / "t.h5", "pool@0:candidate")
    assert "has no lane 'candidate'" in refused("show", tmp_path / "t.h5", "pool@0", "--lane", "candidate")


def test_lanes_of_another_dtype_are_not_compared(run, tmp_path: Path) -> None:
    lanes = {"reference": "float32", "candidate": "float16"}
    layout = TraceLayout(tensors=tuple(TensorSpec("mix", (2,), d, lane, "activations") for lane, d in lanes.items()))
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({lane: {} for lane in lanes})) as trace:
        tensors = {(lane, "activations", "mix"): np.ones(2, dtype) for lane, dtype in lanes.items()}
        trace.append_step(StepRecord(0, 0, dict.fromkeys(lanes, 1.0), tensors))
    found = shown(run, tmp_path / "t.h5", "mix")
    assert found["compared"] is None
    assert found["not_compared"] == "reference is float32 (2,), candidate float16 (2,)"
    assert run("diff", tmp_path / "t.h5").code == 1
