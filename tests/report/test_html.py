"""report.html: that no text is markup, that it stays small, and, in a real browser, that it does what it shows."""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diag.common.source_lines import SourceLine
from diag.report.html import page_of
from diag.report.html.distances import histograms_of
from diag.report.html.figures import loss_chart_of
from diag.report.stored import report_with_record
from diag.verdict.attribution import Attribution, Trial, Workaround
from diag.verdict.chaos import Curve, Trajectories
from tests.report.test_recorded import trace
from tests.report.test_terminal import CLEAN, DIVERGED, FUSED, ROUNDING, observation
from traces.described import DescribedOp, OpInput, rows_of
from traces.reader import TraceReader
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

EVIL = "<img src=x onerror=alert(1)>\u202e\x1b[2J</script>"
SHOWN = "<img src=x onerror=alert(1)>\\u202e\\x1b[2J</script>"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def evil():
    """A divergence whose names and texts are markup wherever a stranger may choose them."""
    trial = Trial(("off",), unit=0.0, step=0.1)
    paste = Workaround("off", f"first()\n{EVIL}", EVIL, trial)
    found = Attribution(Trial((), unit=1e5, step=1e4), (trial,), ("off",), "kernel", EVIL, (paste,))
    line = SourceLine(EVIL, 1, EVIL, EVIL)
    first = replace(FUSED, where=replace(FUSED.where, layer=EVIL), cause=EVIL, summary=EVIL, lines=(line,))
    path = (observation(EVIL, excess=50.0), *DIVERGED.path)
    lanes = tuple(replace(lane, environment={"tensorflow": EVIL}) for lane in DIVERGED.lanes)
    return replace(DIVERGED, first_divergence=first, path=path, model=EVIL, lanes=lanes, attribution=found, worst=path)


def described(number):
    """Each op reads what a variable holds, and what the op before it made; a line for each, one of a stranger's."""
    before = OpInput("before", number - 1, 0, "float32", "32x512") if number else OpInput(EVIL, None, 0, "float32", "")
    line = SourceLine(f"{EVIL}.py" if number == 3 else "model.py", number, "call", EVIL)
    attributes = {"T": "float32", "transpose_a": "false", EVIL: EVIL}
    reads = (before, OpInput(f"layer{number}/kernel", None, 0, "float32", "512x512"))
    return DescribedOp(number, f"op{number}", "MatMul", "forward", None, None, line, "float32", reads, attributes)


def large(folder, num_ops, num_steps):
    """A trace with so many ops and steps, the 7th op wrong by 10 times its bound."""
    layers = tuple(f"layer{number}" for number in range(100))
    columns = {"op_columns": op_columns(()), "unit_columns": unit_columns(())}
    layout = TraceLayout(steps=num_steps, layers=layers, **columns, describes_ops=True)
    places = {"reference": {"place": "CPU:0/graph"}, "candidate": {"place": "GPU:0/graph"}}
    path = folder / "trace.h5"
    with TraceWriter(path, layout, RunDocuments(places)) as writer:
        numbers = range(num_ops)
        writer.append_ops({
            "step": [0] * num_ops, "index": list(numbers), "output": [0] * num_ops, "phase": ["forward"] * num_ops,
            "layer": [EVIL if n == 3 else layers[n % 100] for n in numbers], "variable": [None] * num_ops,
            "op_type": ["MatMul" if n % 2 else "Relu" for n in numbers], "dtype": ["float32"] * num_ops,
            "shape": ["32x512"] * num_ops, "bound": [1.0] * num_ops,
            "excess": [10.0 if n == 7 else 0.001 * n / num_ops for n in numbers],
            "verdict": ["divergence" if n == 7 else "rounding" for n in numbers],
        })  # fmt: skip
        writer.describe_ops(rows_of([described(number) for number in numbers], 0, {}))
        for step in range(num_steps):
            losses = {"reference": 1 / (step + 1), "candidate": 1.1 / (step + 1)}
            writer.append_step(StepRecord(step, 0, losses, excess=dict.fromkeys(layers, 0.1 * step)))
    return path


def test_no_text_is_markup():
    page = page_of(evil())
    assert "<img" not in page and page.count("</script>") == 1 and "\x1b" not in page and "\u202e" not in page
    assert "first()\n&lt;img" in page  # the lines of what is to be pasted stay
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?!#)[a-z]+:""", page)
    assert "default-src &#39;none&#39;" in page


@pytest.mark.parametrize("result", [CLEAN, ROUNDING, DIVERGED])
def test_every_verdict_has_a_page(result):
    page = page_of(result)
    assert ('class="bad"' in page) == (result.verdict == "divergence")


def test_the_band_is_what_one_rounding_makes_of_the_reference_s_loss():
    losses = {"reference": [1.0, 0.5, 0.0], "candidate": [1.0, 0.5, 0.25]}
    curves = tuple(Curve("twin", 1e-7, [0.1] * 3, apart, []) for apart in ([0.0, 0.5, math.inf], [0.1, 0.2, 0.0]))
    chart = loss_chart_of(replace(ROUNDING, losses=losses, steps=3, twins=Trajectories(curves[0], curves, (0.1,) * 3)))
    # 800 wide, 220 high from 0 to 1; 0.1 above 1 is cut at the chart's edge
    upper, lower = ["0.0,0.0", "400.0,55.0", "800.0,0.0"], ["800.0,220.0", "400.0,165.0", "0.0,22.0"]
    assert chart.band.split() == upper + lower and chart.num_twins == 2
    assert loss_chart_of(ROUNDING).band == ""


def test_histograms_are_of_the_tensors_that_the_trace_keeps(tmp_path):
    specs = tuple(TensorSpec("dense", (4,), "float32", lane, "activations") for lane in ("reference", "candidate"))
    layout = TraceLayout(steps=1, tensors=specs, op_columns=op_columns(()), unit_columns=unit_columns(()))
    values = np.array([1, 2, 3, 4], np.float32)
    moved = (values.view(np.int32) + np.array([0, 1, 5, 0], np.int32)).view(np.float32)
    tensors = {("reference", "activations", "dense"): values, ("candidate", "activations", "dense"): moved}
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as writer:
        writer.append_step(StepRecord(0, 0, {"reference": 1.0, "candidate": 1.0}, tensors))
    path = (observation("elsewhere"), replace(observation("dense", name="output"), shape=(4,)))
    with TraceReader(tmp_path / "t.h5") as reader:
        (found,) = histograms_of(replace(ROUNDING, path=path), reader)
    assert [(bar.distance, bar.count, bar.width) for bar in found.bars if bar.count] == [
        ("0", "2", 100), ("1", "1", 50), ("4 to 7", "1", 50),
    ]  # fmt: skip
    assert found.summary == "2 of 4 elements differ, at most by 5 ULP"
    assert found.elements[0].index == "[2]" and found.elements[0].values[0] == ("3.0", "0x40400000")


@pytest.mark.slow  # nearly all of it writes the trace
def test_500_ops_and_5000_steps_stay_small(tmp_path):
    path = large(tmp_path, 500, 5000)
    losses = {lane: np.linspace(1.0, 0.1, 5000).tolist() for lane in ("reference", "candidate")}
    with TraceReader(path) as reader:
        page = page_of(replace(DIVERGED, losses=losses, steps=5000), reader)
    assert len(page.encode()) < 5_000_000
    assert page.count('<tr id="op-') == 500 and page.count("<canvas data-cells") == 100


def test_it_is_written_from_a_trace(tmp_path, capsys):
    from diag.report.__main__ import main

    path = trace(tmp_path, report_with_record(DIVERGED))
    assert main([str(path), "--html", str(tmp_path / "page.html")]) == 1
    assert "dense" in (tmp_path / "page.html").read_text()
    assert main([str(path), "--html", str(tmp_path / "nowhere" / "page.html")]) == 2


# in a browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    playwright = pytest.importorskip("playwright.sync_api")
    if BROWSER is None:
        pytest.skip("there is no Chromium")
    folder = tmp_path_factory.mktemp("page")
    with TraceReader(large(folder, 60, 5)) as reader:
        (folder / "report.html").write_text(page_of(evil(), reader))
    options = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=BROWSER, args=options)
        shown = browser.new_page(viewport={"width": 390, "height": 844})
        shown.said, shown.asked = [], []
        shown.on("console", lambda message: shown.said.append(message.text))
        shown.on("pageerror", lambda error: shown.said.append(str(error)))
        shown.on("dialog", lambda dialog: shown.said.append(dialog.message))
        shown.on("request", lambda request: shown.asked.append(request.url))
        shown.goto((folder / "report.html").as_uri())
        yield shown
        browser.close()


def visible(page):
    return page.locator("#op-table tbody tr:visible")


def test_in_a_browser_ops_are_sorted_filtered_and_found_from_the_path(page):
    by_error = page.locator("#op-table th", has_text="error over bound")
    by_error.click()
    assert visible(page).first.locator("td").first.text_content() == "7"  # the largest first
    by_error.click()
    assert visible(page).last.locator("td").first.text_content() == "7"
    page.fill("#filter", "matmul layer5")
    assert all("layer5" in text for text in visible(page).all_text_contents()) and visible(page).count() == 6
    page.fill("#filter", "")
    page.check("#only-wrong")
    assert visible(page).count() == 1
    page.locator("#op-7 td a").first.click()  # to an op that is not shown
    assert page.url.endswith("#op-6") and page.locator("#op-6").is_visible() and visible(page).count() == 60
    page.locator("a.unit.first").first.click()
    assert page.input_value("#filter").startswith("<img src=x")


def test_in_a_browser_nothing_is_fetched_nothing_fails_and_text_is_text(page):
    page.locator("#do-now button.copy").first.click()
    page.get_by_text("Copied").wait_for()
    assert len(page.asked) == 1 and page.said == []
    assert page.locator("img").count() == 0
    assert SHOWN in page.locator("a.unit b").first.text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # a phone's width
