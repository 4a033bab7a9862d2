"""report.html: that no text is markup, that it stays small, and, in a real browser, that it does what it shows."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest

from diag.report.html import page_of
from diag.report.stored import report_with_record
from diag.verdict.attribution import Attribution, Trial, Workaround
from tests.report.test_recorded import trace
from tests.report.test_terminal import CLEAN, DIVERGED, FUSED, ROUNDING, observation
from traces.reader import TraceReader
from traces.schema import RunDocuments, StepRecord, TraceLayout, op_columns, unit_columns
from traces.writer import TraceWriter

EVIL = "<img src=x onerror=alert(1)>\u202e\x1b[2J</script>"
SHOWN = "<img src=x onerror=alert(1)>\\u202e\\x1b[2J</script>"
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def evil():
    """A divergence whose names and texts are markup wherever a stranger may choose them."""
    trial = Trial(("off",), unit=0.0, step=0.1)
    paste = Workaround("off", f"first()\n{EVIL}", EVIL, trial)
    found = Attribution(Trial((), unit=1e5, step=1e4), (trial,), ("off",), "kernel", EVIL, (paste,))
    first = replace(FUSED, where=replace(FUSED.where, layer=EVIL), cause=EVIL, summary=EVIL)
    path = (observation(EVIL, excess=50.0), *DIVERGED.path)
    lanes = tuple(replace(lane, environment={"tensorflow": EVIL}) for lane in DIVERGED.lanes)
    return replace(DIVERGED, first_divergence=first, path=path, model=EVIL, lanes=lanes, attribution=found, worst=path)


def large(folder, num_ops, num_steps):
    """A trace with so many ops and steps, the 7th op wrong by 10 times its bound."""
    layers = tuple(f"layer{number}" for number in range(100))
    layout = TraceLayout(steps=num_steps, layers=layers, op_columns=op_columns(()), unit_columns=unit_columns(()))
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


@pytest.mark.slow  # nearly all of it writes the trace
def test_500_ops_and_5000_steps_stay_small(tmp_path):
    path = large(tmp_path, 500, 5000)
    losses = {lane: np.linspace(1.0, 0.1, 5000).tolist() for lane in ("reference", "candidate")}
    with TraceReader(path) as reader:
        page = page_of(replace(DIVERGED, losses=losses, steps=5000), reader)
    assert len(page.encode()) < 5_000_000
    assert page.count("<tr class=") == 500 and page.count("<canvas data-cells") == 100


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
    page.uncheck("#only-wrong")
    page.locator("a.unit.first").first.click()
    assert page.input_value("#filter").startswith("<img src=x")


def test_in_a_browser_nothing_is_fetched_nothing_fails_and_text_is_text(page):
    page.locator("#do-now button.copy").first.click()
    page.get_by_text("Copied").wait_for()
    assert len(page.asked) == 1 and page.said == []
    assert page.locator("img").count() == 0
    assert SHOWN in page.locator("a.unit b").first.text_content()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # a phone's width
