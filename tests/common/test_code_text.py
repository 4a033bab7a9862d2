"""Text in emitted code is one literal, and comes back as it was."""

from __future__ import annotations

import ast
import math
import shlex
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diag.common.code_text import identifier, in_comment, in_docstring, literal
from diag.common.text import as_text
from diag.common.wording import flag_of

NASTY = (
    '"""', "'''", '"', "'", "\\", '\\"', "\n", "\r", "\x00", "\u2028", "{", "}", "{0}", "\x1b[2J", "\ud800", "#",
    "\\N{BEL}", "\u202e", '\\""" ; import os',
)  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=5))).map("".join)
plain = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), texts),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3), st.tuples(inner, inner)
    ),
)


@given(plain)
def test_a_literal_comes_back(value: Any) -> None:
    code = literal(value)
    assert ast.literal_eval(code) == value
    assert code.isascii() and code.isprintable()


@given(texts)
def test_a_text_stays_in_its_docstring(text: str) -> None:
    module = ast.parse(f'"""{in_docstring(text)}"""')
    (statement,) = module.body
    assert isinstance(statement, ast.Expr) and ast.literal_eval(statement.value) == as_text(text)


@given(texts)
def test_a_text_stays_in_its_comment(text: str) -> None:
    assert ast.parse(f"# {in_comment(text)}\n").body == []


@pytest.mark.parametrize("word", ["coding:", "coding=", "-*- coding: ", "vim: fileencoding="])
def test_no_comment_says_how_a_file_is_read(word: str) -> None:
    """In UTF-7 +AAo- is a new line: what stood in a comment would be run."""
    code = f'# layer "{in_comment(f"{word}utf-7 +AAo-import os+AAo-")}"\nx = 1\n'
    assert ast.dump(ast.parse(code.encode())) == ast.dump(ast.parse("x = 1"))


@pytest.mark.parametrize("name", ["dense", "--place=sim:a.py:f", "-x", "a b", "$(id)", "';id;'", ""])
def test_a_name_is_the_value_of_its_flag(name: str) -> None:
    words = shlex.split(flag_of("--layer", name))
    assert words == ([f"--layer={name}"] if name.startswith("-") else ["--layer", name])


def test_numbers_that_have_no_literal() -> None:
    assert eval(literal([math.inf, -math.inf])) == [math.inf, -math.inf]
    assert math.isnan(eval(literal(math.nan)))


@pytest.mark.parametrize("value", [object(), np.float32(1), b"x", {1, 2}])
def test_what_has_no_literal_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="Expected a plain value"):
        literal(value)


@pytest.mark.parametrize("name", ["a b", "x; import os", "", "ｘ", None, 3, "f(", "a.b", "class", "None"])
def test_what_is_no_name_is_not_written(name: Any) -> None:
    assert identifier(name, "Layer") == "Layer"
    assert identifier("Dense", "Layer") == "Dense"
