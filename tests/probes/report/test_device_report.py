"""A card on the terminal: in 80 columns, failures before passes, notes and reasons counted, the next command last."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from probes.frame.device_report import FAIL, NOTE, PASS, UNSUPPORTED, DeviceReport, Measurement, write_reproducers
from probes.report.device_report import MOST_FAILURES, render
from tests.probes.device_reports import MEASUREMENTS, card


def printed(made: DeviceReport, width: int = 80, **given) -> str:
    text = io.StringIO()
    render(made, Console(file=text, width=width), **given)
    return text.getvalue()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("verbose", [False, True])
def test_it_keeps_to_the_width_and_says_what_there_is(width, verbose):
    text = printed(card(tf32=True, place="GPU:0/graph", driver="570.1", os="Linux"), width, verbose=verbose)
    assert max(map(len, text.splitlines())) <= width
    for said in (
        "GPU:0/graph",
        "A chip",
        "TensorFlow 2.21.0",
        "driver 570.1",
        "TF32 on",
        "float32 inputs",
        "1 failure",
    ):
        assert said in text


def test_the_order_is_arithmetic_failures_families_what_is_missing_and_the_next_command():
    text = printed(card())
    titles = [
        "What arithmetic",
        "1 failure",
        "Exact results",
        "Functions",
        "Not to be had",
        "3 pass, 1 fail",
        "--emit FOLDER",
    ]
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)


def test_ops_of_the_same_arithmetic_share_a_heading_and_no_more_is_said_than_is_true_of_all():
    text = printed(card())
    assert "MatMul, Conv2D\n" in text and "in 2 shapes" not in text


def test_details_are_for_verbose():
    assert "((1+2)+3)" not in printed(card()) and "1 detail: --verbose" in printed(card())
    assert "((1+2)+3)" in printed(card(), verbose=True)


def test_passes_are_counted_and_functions_rounded_once_are_not_listed():
    text = printed(card())
    assert "11 of 12 cases of 2 ops exact" in text
    assert "Exp" in text and "1.28" in text and "Relu" not in text
    assert "Relu" in printed(card(), verbose=True)


def test_many_failures_are_cut_and_counted():
    many = [replace(MEASUREMENTS[4], case=f"case {number}") for number in range(MOST_FAILURES + 5)]
    text = printed(card(*many))
    assert "and 5 more (5 exact): --verbose" in text
    assert text.count("FAIL") == MOST_FAILURES
    assert printed(card(*many), verbose=True).count("FAIL") >= len(many)


def test_text_that_looks_like_markup_is_text():
    odd = Measurement("exact", "Sum", "float32", "of [3]", FAIL, "[red]is[/red] 3 [0, 1)")
    text = printed(card(odd))
    assert "of [3]" in text and "[red]is[/red] 3 [0, 1)" in text


def test_nothing_that_can_be_computed_is_said():
    assert "nothing of it can be computed here" in printed(
        card(Measurement("exact", "Sum", "float16", "", UNSUPPORTED, "no kernel"))
    )


def test_the_next_command_is_what_was_not_asked_yet():
    sound = card(replace(MEASUREMENTS[3], status=PASS))
    assert "--out card.json" in printed(sound)
    assert "probes compare a.json OTHER.json" in printed(sound, out=Path("a.json"))
    assert "--emit" not in printed(card(), emit=Path("folder"))


def test_programs_are_written_for_failures_that_have_one(tmp_path):
    twins = [replace(MEASUREMENTS[4], case=case) for case in ("k > 1", "k < 1", "none")]
    made = card(*twins[:2], replace(twins[2], reproducer=""), replace(MEASUREMENTS[0], status=NOTE, reproducer="x"))
    written = write_reproducers(made, tmp_path / "new")
    assert len({*written}) == len(written) == 2 == len(list((tmp_path / "new").iterdir()))
    assert all(path.read_text() == "print('a program')\n" for path in written)
