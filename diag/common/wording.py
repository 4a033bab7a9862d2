"""Numbers and errors as a person reads them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

_STYLE = re.compile(r"\x1b\[[0-9;]*m")  # ECMA-48, 8.3.117: Select Graphic Rendition


def figure(value: float) -> str:
    """Two digits of a number, or all of those before the point up to 99,999: 0.21, 12,034, 1.2e6.

    Of what is nearly 1 so many that it is on the right side of it: 0.999, 1.001.
    """
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if 0.995 <= size < 1.05 and size != 1:
        nearest = min(size, 0.999) if size < 1 else max(size, 1.001)
        return f"{math.copysign(nearest, value):.4g}"
    if size == 0 or 1e-3 <= size < 9.95:
        return f"{value:.2g}"
    if 9.95 <= size < 99999.5:
        return f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def one_line(text: object) -> str:
    """A text, or what an error says, with its line breaks as spaces and in plain letters: Keras prints its in bold."""
    return " ".join(_STYLE.sub("", str(text)).split())


def first_line(text: object) -> str:
    """The first line of a text or of what an error says; empty lines do not count."""
    return str(text).strip().partition("\n")[0].rstrip()


def type_and_message(error: BaseException) -> str:
    """An exception's type and message, in one line, without the arguments that Keras lists with all their numbers."""
    message = one_line(error).partition(" Arguments received by ")[0]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def first_few(names: Sequence[str], most: int = 3) -> str:
    """`a, b, c, ...`: the names, or the first of them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`; did you mean --steps?`, the name that is most like what was given; empty where none is."""
    near = nearest(given, known)
    return f"; did you mean {near}?" if near else ""


def nearest(given: str, known: Iterable[str]) -> str:
    """The name that is most like what was given; empty where none is like it."""
    return next(iter(get_close_matches(given, list(known), 1)), "")


def percent(share: float) -> str:
    """Of a share between 0 and 1, to three digits: 12%, 11.9%, 0.04%."""
    return f"{100 * share:.3g}%" if share >= 1e-5 else f"{figure(100 * share)}%"


def shortened(text: str, width: int) -> str:
    """Cut in the middle: the ends of an op's or a layer's name say most."""
    if len(text) <= width:
        return text
    kept = max(width - 3, 2)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"


def shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def ranges_of(numbers: Iterable[int], most: int | None = None) -> str:
    """Ascending numbers, runs of them joined: "0-3, 7"; of more than `most` runs the first ones and how many steps."""
    numbers = list(numbers)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    if most is not None and len(texts) > most:
        return f"{', '.join(texts[:most])}, ... ({len(numbers):,})"
    return ", ".join(texts)


def duration(seconds: float) -> str:
    """40 s, 12 min, 3.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def size_text(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def flag_of(flag: str, value: str) -> str:
    """`--flag VALUE` as a shell takes it, whatever the value is called: `--flag=VALUE` where it looks like a flag."""
    return shlex.quote(f"{flag}={value}") if value.startswith("-") else f"{flag} {shlex.quote(value)}"
