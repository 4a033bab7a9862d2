"""The benchmarks, on a model small enough that only their working is tested, not the speed."""

import json
import subprocess
import sys
import time

import pytest

from benchmarks.timing import Row, Seconds, TimedTask, interleaved, ratio, speedup

ROWS = {"telescope": 4, "microscope": 5, "statistics": 3, "help": 1}
if sys.platform == "linux":
    ROWS["memory"] = 3


@pytest.fixture(scope="module")
def measured():
    tiny = ("--image-size", "46", "--batch-size", "2", "--rounds", "1", "--json")
    tiny += tuple(word for name in ROWS for word in ("--only", name))  # the dump's processes take too long
    done = subprocess.run([sys.executable, "-m", "benchmarks", *tiny], check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


@pytest.mark.slow
def test_every_row_is_there(measured):
    names = [row["name"] for row in measured["rows"]]
    assert {name: names.count(name) for name in names} == ROWS
    assert len({row["what"] for row in measured["rows"]}) == len(names)


@pytest.mark.slow
def test_every_figure_is_positive(measured):
    for row in measured["rows"]:
        assert row["measured"] > 0 and row["by_median"] > 0, row["what"]


@pytest.mark.slow
def test_memory_is_told_for_every_step(measured):
    details = [row["detail"] for row in measured["rows"] if row["name"] == "memory"]
    assert not any(detail.startswith("0 MiB") or "/ 0 MiB" in detail for detail in details), details


@pytest.mark.slow
def test_the_load_is_told(measured):
    assert "load average" in measured["load"]


@pytest.mark.parametrize("flags", [["--image-size", "45"], ["--rounds", "0"], ["--only", "sleep"]])
def test_what_cannot_be_measured_is_refused(flags):
    done = subprocess.run([sys.executable, "-m", "benchmarks", *flags], capture_output=True, text=True)
    assert done.returncode == 2
    assert flags[1] in done.stderr


def seconds(shortest, median):
    return Seconds(shortest, median, cpu=shortest, rounds=3)


@pytest.mark.parametrize(
    ("task", "met"), [(seconds(2.0, 2.0), "met"), (seconds(4.0, 4.0), "not met"), (seconds(2.0, 4.0), "unsure")]
)
def test_a_ratio_is_met_where_both_estimates_say_so(task, met):
    assert ratio("", "", task, seconds(1.0, 1.0), 3.0).met == met


def test_a_speedup_is_the_inverse_and_has_a_lower_limit():
    row = speedup("", "", seconds(1.0, 1.0), seconds(4.0, 4.0), 3.0)
    assert (row.measured, row.met) == (4.0, "met")
    assert speedup("", "", seconds(2.0, 2.0), seconds(4.0, 4.0), 3.0).met == "not met"


def test_what_has_no_target_is_not_judged():
    assert Row("", "", 1.0, 1.0, None, "x", None, "").met == ""


def test_rounds_are_interleaved_and_turned_about():
    order = []
    tasks = {name: TimedTask(lambda name=name: order.append(name)) for name in "ab"}
    found = interleaved(3, tasks)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"  # the first two are the warm-up
    assert found["a"].rounds == 3


def test_preparing_is_not_timed():
    (taken,) = interleaved(1, {"a": TimedTask(lambda: None, prepare=lambda: time.sleep(0.05))}).values()
    assert taken.shortest < 0.05
