"""What a person with a Mac is asked to send; and what TensorFlow made of a layer, in words.  All made by hand."""

from __future__ import annotations

from dataclasses import replace

from diag.report.rewrites import near, near_report
from diag.report.sending import what_to_send
from diag.verdict.findings import Divergence, Where
from diag.verdict.result import Judged, LaneInfo, RunResult
from diag.verdict.rewrites import Part, Rewrite, Rewrites

FIRST = Divergence(Where(3, "forward", "layer", "my dense"), "missing-op", "graph-rewriter", 5.0)
MAC = {"os": "macOS 15.1 (macOS-15.1-arm64)", "tensorflow-metal": "1.2.0"}


def result(place: str, environment: dict[str, str], first: Divergence | None = FIRST) -> RunResult:
    lanes = (LaneInfo("reference", "CPU:0/graph", False, environment), LaneInfo("candidate", place, False, environment))
    found = (first,) if first else ()
    return RunResult(
        "divergence" if first else "rounding", first, found, None, None, (), 5, lanes, {}, (), (), (), Judged(),
        files={"trace": "my runs/trace.h5"},
    )  # fmt: skip


def test_on_an_apple_gpu_a_divergence_ends_with_what_to_send():
    lines = what_to_send(result("GPU:0/graph", MAC))
    text = " ".join(lines)
    assert "python -m diag.doctor" in text and "feedbackassistant.apple.com" in text
    assert "python -m diag.replay 'my runs/trace.h5' --step 3 --layer 'my dense'" in text
    assert [line[:2] for line in lines[:-1]] == ["1.", "2.", "3.", "4."]
    op = replace(FIRST, where=Where(0, "forward", "op", "dense", op_type="MatMul", op_index=7))
    assert "--op 7" in " ".join(what_to_send(result("GPU:0/graph", MAC, op)))


def test_a_whole_step_has_no_small_program():
    whole = replace(FIRST, where=Where(0, "forward", "step", None))
    assert not any("reproducer" in line for line in what_to_send(result("GPU:0/graph", MAC, whole)))


def test_everywhere_the_same_is_asked_for_and_nothing_where_nothing_diverges():
    text = " ".join(what_to_send(result("GPU:0/graph", {"os": "Linux-6.1"})))
    assert "github.com/tensorflow" in text and "--place GPU:0 --emit reproducer.py" in text and "Apple" not in text
    assert what_to_send(result("GPU:0/graph", MAC, None)) == []


def part(op: str, index: int, phase: str = "forward") -> Part:
    return Part(f"dense/{op}", op, "dense", None, phase, index)


REWRITES = Rewrites(
    "GPU:0/graph",
    ("dense",),
    (
        Rewrite("fused", "_FusedMatMul", "dense/BiasAdd", (part("MatMul", 1), part("BiasAdd", 2)), "BiasAdd"),
        Rewrite("cast", "Cast", "made", (part("MatMul", 1),), "float32 to float16"),
        Rewrite("layout", "Transpose", "made_too", (part("MatMul", 1),)),
    ),
    {"left-out": (part("Relu", 3),)},
    {"fused": 3, "cast": 1, "folded": 12, "moved": 0},
)


def test_what_became_of_ops_is_said_in_sentences_and_figures():
    assert near(REWRITES) == [
        "dense: MatMul+BiasAdd fused into _FusedMatMul (BiasAdd)",
        "dense: Cast put in at MatMul (float32 to float16)",
        "dense: Transpose put in at MatMul: a change of layout",
        "Relu of dense (forward): simplified away",
        "in the whole step: 3 fused, 1 casts put in, 12 constants folded",
    ]
    assert near(Rewrites("GPU:0/xla", ("dense",), note="XLA does not say")) == ["note: XLA does not say"]
    assert "as it was traced" in near(Rewrites("GPU:0/graph", ("dense",)))[0]


def test_the_same_for_programs():
    found = near_report(REWRITES)
    assert found["absent"]["left-out"][0]["op_index"] == 3
    assert [change["kind"] for change in found["changes"]] == ["fused", "cast", "layout"]
