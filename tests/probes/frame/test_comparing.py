"""Two cards: paired by name, alike in status and figures; the report puts the gravest first."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

from rich.console import Console

from probes.frame.comparing import compare, to_json
from probes.frame.device_report import FAIL, PASS, Measurement, report_of
from probes.report.comparison import render_comparison
from tests.probes.device_reports import MEASUREMENTS, card


def printed(first, second, width: int = 80) -> str:
    text = io.StringIO()
    render_comparison(compare(first, second), Console(file=text, width=width))
    return text.getvalue()


def changed(**changes) -> tuple[Measurement, ...]:
    """The readings with those of the named ops changed."""
    return tuple(replace(each, **changes[each.op]) if each.op in changes else each for each in MEASUREMENTS)


def test_a_card_is_alike_to_itself_read_back_even_with_what_json_lacks():
    odd = card(Measurement("exact", "Sum", "float32", "", FAIL, "off", {"worst": math.inf}))
    assert not compare(odd, report_of(odd.to_json(), "a test")).differs
    assert "alike in 1 reading" in printed(odd, odd)


def test_status_and_figures_count_words_do_not():
    assert not compare(card(), card(*changed(Exp={"says": "in other words"}))).differs
    assert compare(card(), card(*changed(Exp={"status": FAIL}))).differs
    assert compare(card(), card(*changed(Exp={"figures": {"max_ulp": 1.29}}))).differs


def test_readings_of_one_card_alone_and_environments_that_differ():
    found = compare(card(), card(*MEASUREMENTS[1:], tensorflow="2.19.0", driver="570"))
    assert [(each.key[1], each.second) for each in found.differences] == [("MatMul", None)]
    assert found.environment == {"tensorflow": ("2.21.0", "2.19.0"), "driver": (None, "570")}
    assert found.num_alike == len(MEASUREMENTS) - 1


def test_the_report_says_arithmetic_first_then_outcomes_then_figures():
    arithmetic = {"status": "note", "says": "TF32 inputs", "figures": {"input": "tf32"}}
    other = card(
        *changed(MatMul=arithmetic, TopKV2={"status": PASS}, Exp={"figures": {"max_ulp": 9.0}}), place="GPU:0/eager"
    )
    text = printed(card(), other)
    order = [text.index(title) for title in ("Another arithmetic", "Another outcome", "same outcome, other figures")]
    assert order == sorted(order)
    assert "TF32 inputs" in text and "pass: 1 of 3 cases" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_quick_card_beside_a_whole_one_is_said_to_be_no_match():
    assert "tried less" in printed(card(), card(quick=True)) and "tried less" not in printed(card(), card())


def test_cards_of_one_place_are_told_apart():
    assert compare(card(), card()).labels == ("CPU:0/eager (first)", "CPU:0/eager (second)")


def test_json_has_both_sides():
    document = json.loads(to_json(compare(card(), card(*changed(TopKV2={"status": PASS})))))
    (row,) = document["differences"]
    assert (row["op"], row["first"]["status"], row["second"]["status"]) == ("TopKV2", "fail", "pass")
    assert document["schema"] == "lockstep-card-comparison/1" and document["alike"] == len(MEASUREMENTS) - 1
