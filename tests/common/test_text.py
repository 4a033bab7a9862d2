"""Text of a stranger is shown as text: nothing of it acts on a terminal, a browser, a document or a spreadsheet."""

from __future__ import annotations

import csv
import io
import unicodedata
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.table import Table

from diag.common.terminal import ReportConsole
from diag.common.text import as_text

ANYTHING = st.text(st.characters(codec=None, categories=None), max_size=60)


@pytest.mark.parametrize(
    ("given_text", "shown"),
    [
        ("dense_1/kernel", "dense_1/kernel"),
        ("日本 ü", "日本 ü"),
        ("\x1b]0;owned\x07", "\\x1b]0;owned\\x07"),
        ("a\nSound: nothing is wrong", "a\\nSound: nothing is wrong"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\u2066x\u2069\u200b\ufeff", "\\u2066x\\u2069\\u200b\\ufeff"),
        ("\ud800", "\\ud800"),
        ("\x9b31m", "\\x9b31m"),
        ("[/x]", "[/x]"),
    ],
)
def test_a_terminal_is_shown_the_escape(given_text: str, shown: str) -> None:
    assert as_text(given_text) == shown


@given(ANYTHING)
def test_nothing_that_acts_is_left_in_any_medium(text: str) -> None:
    for medium in ("terminal", "html", "markdown", "csv"):
        shown = as_text(text, medium)
        categories = {unicodedata.category(character) for character in shown}
        assert not categories & {"Cc", "Cf", "Cs", "Zl", "Zp"}
        shown.encode()


@given(ANYTHING)
def test_html_is_one_text(text: str) -> None:
    found: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: object) -> None:
            found.append(f"<{tag}>")

        def handle_data(self, data: str) -> None:
            found.append(data)

    reader = Reader()
    reader.feed(f"<p title='{as_text(text, 'html')}'>{as_text(text, 'html')}</p>")
    reader.close()
    assert "".join(found) == f"<p>{as_text(text)}"


@pytest.mark.parametrize("text", ["[a](javascript:x)", "<b>", "# x", "`x`", "| a |", "![i](u)", "*b*", "_i_", "&lt;"])
def test_markdown_has_no_markup_left(text: str) -> None:
    shown = as_text(text, "markdown")
    assert "<" not in shown
    for mark in "[]()`*_#|!":
        assert shown.count(mark) == shown.count(f"\\{mark}")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\t=1", "\uff1d1"])
def test_a_spreadsheet_is_given_no_formula(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([as_text(text, "csv")])
    assert file.getvalue().lstrip('"')[0] in "'\\"


def test_a_long_text_shows_its_ends() -> None:
    assert as_text("a" * 300 + "b", longest=20) == "a" * 9 + "..." + "a" * 7 + "b"


def test_a_console_takes_no_markup_and_sends_no_control_character() -> None:
    file = io.StringIO()
    console = ReportConsole(file=file, width=60, force_terminal=True)
    table = Table()
    table.add_column("[red]h")
    table.add_row("[/x]\x1b[2J")
    console.print("[/x] :smile: \x1b]0;t\x07")
    console.print(table)
    printed = file.getvalue()
    assert "[/x] :smile: \\x1b]0;t" in printed
    assert "[red]h" in printed
    assert "\x1b[2J" not in printed and "\x1b]0" not in printed
