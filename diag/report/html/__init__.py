"""report.html: one file that needs no network, runs no script but its own, and takes every text for text."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from diag.common.text import escaped
from diag.report.html.page import Page, page_values
from diag.report.short_path import rows_of
from diag.verdict.result import RunResult
from traces.reader import TraceReader

# W3C's Content Security Policy: what has not these digests is not applied and not run, and nothing is fetched.
POLICY = "default-src 'none'; style-src '{style}'; script-src '{script}'; base-uri 'none'; form-action 'none'"
WITH_IMAGES = "default-src 'none'; style-src '{style}'; img-src data:; base-uri 'none'; form-action 'none'"


class WholeLines(str):
    """A text whose line breaks stay; it is escaped already but for them."""


def page_of(result: RunResult, trace: TraceReader | None = None) -> str:
    """The page; with a trace also the errors step by step and the table of ops."""
    style, script = _asset("report.css"), _asset("report.js")
    policy = POLICY.format(style=_digest(style), script=_digest(script))
    page: Page = page_values(result, trace)
    template = _environment().get_template("report.html")
    return template.render(page=page, policy=policy, style=Markup(style), script=Markup(script))


def study_page_of(values: Mapping[str, object]) -> str:
    """The page of a study: what its template, study.html, shows; no script, and images that are inside."""
    style = _asset("report.css")
    policy = WITH_IMAGES.format(style=_digest(style))
    return _environment().get_template("study.html").render(**values, policy=policy, style=Markup(style))


def notebook_of(result: RunResult) -> str:
    """What a notebook shows: the sentence, what to do now, and the path in a few rows."""
    return _environment().get_template("notebook.html").render(page=page_values(result, None), rows=rows_of(result))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader(__name__, "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_plain,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = lambda text: WholeLines(escaped(text, except_for="\n"))
    return environment


def _plain(value: object) -> object:
    """What is put in: no control character, no override of the direction; autoescape does the rest."""
    return escaped(value) if type(value) is str else value


def _asset(name: str) -> str:
    return resources.files(__name__).joinpath("assets", name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
