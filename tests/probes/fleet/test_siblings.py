"""Which device differs: by hand, without TensorFlow."""

from __future__ import annotations

from dataclasses import replace

from diag.common.task import Done
from diag.common.terminal import ReportConsole
from probes.fleet.answers import Answer, FleetDevice, device_of
from probes.fleet.siblings import LACKS, OTHER, TIED, VARIES, compare, to_document
from probes.report.fleet import render_fleet

MATMUL, SUM = ("exact", "MatMul", "float32", "shapes"), ("bits", "Sum", "float32", "size 33")
KIND = {"chip": "H", "tensorflow": "2"}


def device(
    label: str, matmul: str | None = "aa", total: str | None = "bb", status: str = "pass", **changed
) -> FleetDevice:
    answers = {
        MATMUL: Answer(matmul, {"shapes": (status, f"says {matmul}")}),
        SUM: Answer(total, {"size 33": ("note", "a sum")}),
    }
    return replace(FleetDevice(label, "host", label, KIND, answers), **changed)


def found(*devices: FleetDevice) -> list[tuple[str, str, str]]:
    return [(each.label, each.probe[1], each.how) for group in compare(devices).siblings for each in group.differences]


def test_siblings_agree():
    comparison = compare([device("a"), device("b"), device("c")])
    assert not comparison.differs and comparison.siblings[0].num_probes == 2


def test_the_one_that_differs_is_named_and_what_it_says():
    comparison = compare([device("a"), device("b", matmul="ab"), device("c")])
    (difference,) = comparison.siblings[0].differences
    assert comparison.differs
    assert (difference.label, difference.probe, difference.how) == ("b", MATMUL, OTHER)
    assert (difference.its, difference.theirs) == ("pass: says ab", "pass: says aa")


def test_two_that_differ_are_both_named():
    assert found(device("a"), device("b", total="cc")) == [("a", "Sum", TIED), ("b", "Sum", TIED)]


def test_what_is_not_the_same_twice_is_a_difference_unless_most_are_so():
    assert found(device("a"), device("b", total=None)) == [("b", "Sum", VARIES)]
    comparison = compare([device("a", total=None), device("b", total=None), device("c")])
    assert not comparison.differs and comparison.siblings[0].unsettled == (SUM,)


def test_other_kinds_are_no_siblings_and_a_card_seen_twice_is_one():
    other = device("b", matmul="ab", kind={**KIND, "driver": "9"})
    assert found(device("a"), other) == [] and len(compare([device("a"), other]).siblings) == 2
    twice = compare([device("a"), device("b", identity="a")])
    assert len(twice.siblings[0].devices) == 1 and twice.seen_twice == ("b",)


def test_failures_silence_and_missing_answers_are_not_alike():
    assert compare([device("a", status="fail"), device("b", status="fail")]).differs
    assert compare([device("a"), device("b"), FleetDevice("c", error="gone")]).differs
    assert found(device("a"), device("b", answers={MATMUL: device("b").answers[MATMUL]})) == [("b", "Sum", LACKS)]


def test_answers_come_out_of_a_result_and_go_into_a_table_and_a_document(capsys):
    row = {"family": "exact", "op": "MatMul", "dtype": "float32", "case": "shapes", "bits": "ab",
           "readings": [["shapes", "fail", "3 wrong"]]}  # fmt: skip
    done = Done("k", {"identity": "0:1", "kind": KIND, "probes": [row]}, seconds=2.0, num_bytes=10, host="h")
    odd = device_of("odd", done)
    assert odd.failures == 1 and odd.answers[MATMUL].bits == "ab"
    assert device_of("odd", Done("k", error="died", host="h")).error == "died"
    comparison = compare([device("a"), device("b"), odd])
    render_fleet(comparison, ReportConsole(markup=True))
    out = capsys.readouterr().out
    assert "odd: not as its siblings" in out and "it: fail: 3 wrong" in out and "siblings: pass: says aa" in out
    devices = to_document(comparison)["siblings"][0]["devices"]
    assert [len(each["differences"]) for each in devices] == [0, 0, 2]
