"""`diff`: which tensors differ, by how much, and an exit code as diff(1) has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from traces.commands.diff import SCHEMA
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter


def differing(document: dict) -> list[tuple[str, str]]:
    return [(each["a"], each["b"]) for each in document["differences"]]


def test_two_lanes_and_the_first_difference_first(run, small: Path) -> None:
    done = run("diff", small, "--json")
    assert (done.code, done.document["schema"], done.document["same"]) == (1, SCHEMA, False)
    assert [a.removesuffix(":reference") for a, _ in differing(done.document)] == [
        "activations/dense@0", "activations/tokens@0", "gradients/dense/kernel@1", "gradients/dense/kernel@2",
    ]  # fmt: skip
    assert done.document["first"]["a"] == "activations/dense@0:reference"
    assert done.document["first"]["b"] == "activations/dense@0:candidate"


def test_by_how_much(run, small: Path) -> None:
    found = {each["a"]: each for each in run("diff", small, "--json").document["differences"]}
    gradient = found["gradients/dense/kernel@2:reference"]["compared"]
    assert (gradient["num_unequal"], gradient["max"], gradient["mean"]) == (6, 2, 2)
    # 3 differ by steps, 2 by class, one in the sign of zero, one in the payload of a NaN: two are the same.
    assert found["activations/dense@0:reference"]["num_bits_differ"] == 7
    assert found["activations/tokens@0:reference"]["compared"]["num_unequal"] == 2


def test_the_text_in_eighty_columns(run, small: Path) -> None:
    done = run("diff", small)
    assert done.text.startswith(
        "4 of 19 tensors differ, first activations/dense at step 0: 7 of 9 elements, by at most 5 ULP."
    )
    rows = [line.split() for line in done.lines if " gradients/dense/kernel " in f"{line} "]
    assert [row[:5] for row in rows] == [
        ["1", "gradients/dense/kernel", "6", "6", "1"], ["2", "gradients/dense/kernel", "6", "6", "2"],
    ]  # fmt: skip
    assert max(len(line) for line in done.lines if not line.startswith("  python")) <= 80


def test_the_same_bits(run, small: Path) -> None:
    done = run("diff", small, "snapshots")
    assert done.code == 0
    assert done.out.startswith("The same bits: all of 1 tensor compared.")
    assert run("diff", small, "gradients@0").code == 0


def test_checksums_are_enough_for_the_same(run, small: Path) -> None:
    """Step 1 keeps no activations, and both lanes had the same."""
    done = run("diff", small, "activations", "--steps", "1", "--all", "--json")
    assert done.code == 0
    assert {each["by"] for each in done.document["differences"]} == {"checksums"}


def test_what_only_checksums_show_to_differ(run, write, tmp_path: Path) -> None:
    def change(step: int, tensors: dict) -> None:
        if step == 1:
            tensors["candidate", "activations", "tokens"][0] += 1

    path = write(tmp_path / "t.h5", change)
    done = run("diff", path, "tokens@1")
    assert done.code == 1
    assert done.line_of("tokens  ").split() == ["1", "activations/tokens", "?", "?", "?", "?"]
    assert "1 tensor of which only checksums are stored" in done.out


def test_two_steps_lane_by_lane(run, small: Path, value_of) -> None:
    done = run("diff", small, "gradients", "--steps", "1", "2", "--json")
    assert done.code == 1
    pairs = differing(done.document)
    assert ("gradients/dense/kernel@1:candidate", "gradients/dense/kernel@2:candidate") in pairs
    one, two = (value_of(step)["candidate", "gradients", "dense/kernel"] for step in (1, 2))
    (found,) = (each for each in done.document["differences"] if each["a"] == pairs[1][0])
    assert found["num_bits_differ"] == np.count_nonzero(one != two)
    (lane,) = {a.rpartition(":")[2] for a, _ in differing(
        run("diff", small, "gradients", "--steps", "1", "2", "--lane", "reference", "--json").document
    )}  # fmt: skip
    assert lane == "reference"


def test_two_tensors(run, small: Path, value_of) -> None:
    done = run("diff", small, "gradients/dense/kernel@2:reference", "update/dense/kernel@2:candidate", "--json")
    one = value_of(2)["reference", "gradients", "dense/kernel"]
    other = value_of(2)["candidate", "update", "dense/kernel"]
    assert done.document["first"]["num_bits_differ"] == np.count_nonzero(one != other) > 0
    same = run("diff", small, "gradients/dense/kernel@0:reference", "gradients/dense/kernel@0:candidate")
    assert same.code == 0
    other_shape = run("diff", small, "gradients/dense/kernel", "activations/tokens", "--steps", "2", "--json")
    assert other_shape.document["first"]["by"] == "incomparable"
    assert other_shape.document["first"]["note"] == "float32 2x3 against int64 4"


def test_a_batch_is_held_against_each_lane(run, small: Path) -> None:
    found = run("diff", small, "batches/inputs@0", "activations/dense_1@0", "--json").document["differences"]
    assert [(each["a"], each["b"]) for each in found] == [
        ("batches/inputs@0", f"activations/dense_1@0:{lane}") for lane in ("reference", "candidate")
    ]
    assert {each["note"] for each in found} == {"float32 2x2 against bfloat16 2x2"}


def test_one_step_or_lane_said_holds_for_both(run, small: Path) -> None:
    found = run("diff", small, "gradients/dense/kernel@2:candidate", "update/dense/kernel", "--json").document["first"]
    assert (found["a"], found["b"]) == ("gradients/dense/kernel@2:candidate", "update/dense/kernel@2:candidate")


def test_two_traces(run, write, small: Path, tmp_path: Path) -> None:
    same = write(tmp_path / "same.h5")
    done = run("diff", small, "--other", same)
    assert done.code == 0
    assert "all of 41 tensors compared" in done.out  # 19 of each lane, and a batch of each step

    def change(step: int, tensors: dict) -> None:
        if step == 2:
            tensors["reference", "update", "dense/kernel"][1, 2] *= 2

    other = write(tmp_path / "other.h5", change, portable=True)
    done = run("diff", small, "--other", other, "--json")
    assert (done.code, differing(done.document)) == (
        1, [("update/dense/kernel@2:reference", "update/dense/kernel@2:reference")],
    )  # fmt: skip
    assert run("diff", small, "update@0-1", "--other", other).code == 0


def test_what_only_one_trace_has_is_a_difference(run, small: Path, tmp_path: Path) -> None:
    layout = TraceLayout(tensors=(TensorSpec("pool", (1,), "float32", "reference", "activations"),))
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as trace:
        losses = {"reference": 1.0, "candidate": 1.0}
        trace.append_step(StepRecord(9, 0, losses, {("reference", "activations", "pool"): np.ones(1, np.float32)}))
    done = run("diff", small, "*", "--other", tmp_path / "t.h5", "--json")
    assert (done.code, done.document["num_compared"]) == (1, 0)
    assert done.document["only_b"] == ["activations/pool", "step 9"]
    assert "activations/dense" in done.document["only_a"] and "steps 0-2" in done.document["only_a"]


def test_the_first_is_the_first_in_time(run, write, small: Path, tmp_path: Path) -> None:
    def change(step: int, tensors: dict) -> None:
        if step == 2:
            tensors["reference", "activations", "dense"] += 1
        tensors["reference", "update", "dense/kernel"] += step

    found = run(
        "diff", small, "--other", write(tmp_path / "other.h5", change), "--lane", "reference", "--json"
    ).document
    assert [a for a, _ in differing(found)] == [
        "update/dense/kernel@1:reference", "activations/dense@2:reference", "update/dense/kernel@2:reference",
    ]  # fmt: skip


def zeros(path: Path, dtypes: dict[str, str], steps: dict[int, tuple[str, ...]]) -> Path:
    """A trace of one lane, of zeros, which have the same checksum in every dtype of one width."""
    layout = TraceLayout(
        lanes=("reference",),
        tensors=tuple(TensorSpec(name, (2,), dtype, "reference", "activations") for name, dtype in dtypes.items()),
    )
    with TraceWriter(path, layout, RunDocuments({"reference": {}})) as trace:
        for step, names in steps.items():
            tensors = {("reference", "activations", name): np.zeros(2, dtypes[name]) for name in names}
            trace.append_step(StepRecord(step, 0, {"reference": 1.0}, tensors))
    return path


def test_zeros_of_another_dtype_are_not_the_same(run, tmp_path: Path) -> None:
    path = zeros(tmp_path / "t.h5", {"a": "float32", "b": "int32"}, {0: ("a", "b")})
    found = run("diff", path, "activations/a", "activations/b", "--json")
    assert (found.code, found.document["first"]["note"]) == (1, "float32 2 against int32 2")


def test_what_a_step_left_out(run, tmp_path: Path) -> None:
    path = zeros(tmp_path / "t.h5", dict.fromkeys("abc", "float32"), {0: ("a", "b"), 1: ("a",)})
    found = run("diff", path, "--steps", "0", "1", "--all", "--json").document
    assert [(each["a"], each["by"]) for each in found["differences"]] == [
        ("activations/a@0:reference", "checksums"), ("activations/b@0:reference", "one-sided"),
    ]  # fmt: skip
    assert found["first"]["note"] == "activations/b@0:reference is there, activations/b@1:reference is not"


def test_nothing_on_either_side_is_not_the_same(refused, tmp_path: Path) -> None:
    path = zeros(tmp_path / "t.h5", {"a": "float32"}, {0: (), 1: ()})
    assert "neither a value nor a checksum is stored" in refused("diff", path, "--steps", "0", "1")


def test_values_that_are_equal_in_other_bits(run, write, tmp_path: Path) -> None:
    def change(step: int, tensors: dict) -> None:
        tensors["reference", "update", "dense/kernel"][:] = 0.0
        tensors["candidate", "update", "dense/kernel"][:] = 0.0
        tensors["candidate", "update", "dense/kernel"][0, 0] = -0.0

    done = run("diff", write(tmp_path / "t.h5", change), "update@0")
    assert done.code == 1
    assert "1 of 6 elements, by at most 0 ULP" in done.out
    assert "with equal values, of which the sign of a zero or the payload of a NaN differs" in done.text


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("batches",), "has two sides"),
        (("--lanes", "candidate"), "would hold lane candidate against itself"),
        (("dense@0:candidate",), "would hold lane candidate against itself"),
        (("--steps", "1", "1", "--lane", "candidate"), "against itself"),
        (("gradients/dense/kernel@1", "gradients/dense/kernel@1"), "A and B are both gradients/dense/kernel"),
        (("batches/inputs@1", "batches/inputs@1"), "A and B are both batches/inputs"),
        (("--steps", "0", "1", "2"), "two single steps, such as 3 4"),
        (("--steps", "0-1", "2"), "two single steps"),
        (("--steps", "7"), "no step 7"),
        (("nothing",), "is called 'nothing'"),
        (("gradients/*@0", "update/dense/kernel@0"), "names 2 tensors, gradients/dense/kernel first"),
        (("gradients/dense/kernel", "update/dense/kernel"), "is of 3 steps, 0-2; of two tensors each must be of one"),
        (("--other", "absent.h5"), "There is no trace absent.h5"),
    ],
)
def test_what_cannot_be_compared(refused, small: Path, arguments: tuple[str, ...], complaint: str) -> None:
    assert complaint in refused("diff", small, *arguments)


def test_a_trace_is_not_held_against_itself(refused, small: Path) -> None:
    assert "is the same file" in refused("diff", small, "--other", small)
