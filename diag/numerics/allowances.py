"""How far off one op's result may be, in ULP: rows of a data file, each with its source, and a user's rows.

The file is diag/data/allowances.toml; docs/BOUNDS.md says how a row is chosen and how to add some.  No TensorFlow.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = "data/allowances.toml"
DEFAULT_PLACE = "opencl"
PLACES = (DEFAULT_PLACE, "tensorflow-cpu", "xla-cpu", "cuda", "xla-gpu", "metal")
DTYPES = ("float32", "float16", "bfloat16")
PUBLISHED, MEASURED, DERIVED, YOURS = "published", "measured", "derived", "yours"
BASES = (PUBLISHED, MEASURED, DERIVED)
_FIELDS = {"place", "dtypes", "source", "ulp"}


@dataclass(frozen=True)
class AllowanceRow:
    """One figure: an op's result of this format, at this kind of place, is within `ulp` ULP, as `source` says."""

    op_type: str
    dtype: str
    place: str
    ulp: float
    basis: str
    source: str


def parse(text: str, yours: bool = False) -> tuple[AllowanceRow, ...]:
    """Rows of TOML text.  Raises ValueError, in one line, for what is not as docs/BOUNDS.md has it."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"not TOML: {error}") from error
    tables = document.pop("allowances", None)
    if document or not isinstance(tables, list) or not tables:
        raise ValueError(f"expected one or more [[allowances]] tables and nothing else, received {sorted(document)}")
    return tuple(row for number, table in enumerate(tables, 1) for row in _rows(number, table, yours))


def _rows(number: int, table: Any, yours: bool) -> Iterable[AllowanceRow]:
    where = f"[[allowances]] number {number}"
    expected = _FIELDS | (set() if yours else {"basis"})
    if not isinstance(table, Mapping) or table.keys() != expected:
        given = sorted(table) if isinstance(table, Mapping) else table
        raise ValueError(f"{where}: expected the fields {', '.join(sorted(expected))}, received {given}")
    place, dtypes, source, figures = table["place"], table["dtypes"], table["source"], table["ulp"]
    basis = YOURS if yours else table["basis"]
    if place not in PLACES:
        raise ValueError(f"{where}: expected a place of {', '.join(PLACES)}, received {place!r}")
    if not isinstance(dtypes, list) or not dtypes or any(dtype not in DTYPES for dtype in dtypes):
        raise ValueError(f"{where}: expected dtypes, a list of {', '.join(DTYPES)}, received {dtypes!r}")
    if not yours and basis not in BASES:
        raise ValueError(f"{where}: expected a basis of {', '.join(BASES)}, received {basis!r}")
    if not isinstance(source, str) or not source.strip():
        raise ValueError(f"{where}: expected a source, who says so, received {source!r}")
    if not isinstance(figures, Mapping) or not figures:
        raise ValueError(f"{where}: expected ulp, a table of OP = FIGURE, received {figures!r}")
    for op_type, figure in figures.items():
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0.5 <= figure < math.inf:
            raise ValueError(
                f"{where}: {op_type}: expected ULP of at least 0.5 (correctly rounded), received {figure!r}"
            )
    return [
        AllowanceRow(op, dtype, place, float(ulp), basis, source) for op, ulp in figures.items() for dtype in dtypes
    ]


@cache
def shipped() -> tuple[AllowanceRow, ...]:
    """The rows of the data file that comes with the program."""
    return parse(resources.files("diag").joinpath(DATA).read_text(encoding="utf-8"))


class Allowances:
    """The shipped rows, and a user's, which replace those of the same op, format and place."""

    def __init__(self, yours: Iterable[AllowanceRow] = ()) -> None:
        self.yours = tuple(yours)
        self._by_op: dict[tuple[str, str], list[AllowanceRow]] = {}
        for row in (*self.yours, *shipped()):
            self._by_op.setdefault((row.op_type, row.dtype), []).append(row)

    def rows(self, op_type: str, dtype_name: str) -> tuple[AllowanceRow, ...]:
        """All rows of an op's results in a format, a user's first; a format that is nowhere has float32's."""
        return tuple(self._by_op.get((op_type, dtype_name if dtype_name in DTYPES else "float32"), ()))

    def at(self, op_type: str, dtype_name: str, place: str) -> AllowanceRow | None:
        """The row that a kind of place is held to; None for an op and format that no row is about.

        A user's row of the place; else a user's row of any place (`opencl`); else the widest shipped row of the
        place, or of any place where nothing is published of this one.  What was measured here and there only
        widens: no measurement proves that another processor is as accurate.
        """
        rows = self.rows(op_type, dtype_name)
        for kind in (place, DEFAULT_PLACE):
            if yours := [row for row in rows if row.basis == YOURS and row.place == kind]:
                return _widest(yours)
        rows = tuple(row for row in rows if row.basis != YOURS)
        promised = [row for row in rows if row.place == place and row.basis != MEASURED]
        promised = promised or [row for row in rows if row.place == DEFAULT_PLACE and row.basis != MEASURED]
        measured = [row for row in rows if row.place == place and row.basis == MEASURED]
        return _widest([*promised, *measured])

    def widest(self, op_type: str, dtype_name: str, places: Sequence[str]) -> AllowanceRow | None:
        """The widest of the rows that several kinds of place are held to, where a place may be any of them.

        A user's row settles it: the first of these places that has one.
        """
        found = [row for place in places if (row := self.at(op_type, dtype_name, place)) is not None]
        for place in (*places, DEFAULT_PLACE):
            if yours := [row for row in found if row.basis == YOURS and row.place == place]:
                return yours[0]
        return _widest(found)

    def is_yours(self, op_type: str) -> bool:
        return any(row.op_type == op_type for row in self.yours)


def _widest(rows: Iterable[AllowanceRow]) -> AllowanceRow | None:
    return max(rows, key=lambda row: row.ulp, default=None)


def published(op_type: str, dtype_name: str) -> tuple[AllowanceRow, ...]:
    """All shipped rows of an op's results in a format, with their sources."""
    return _SHIPPED.rows(op_type, dtype_name)


def allowance(op_type: str, dtype_name: str, kind_of_place: str) -> AllowanceRow | None:
    """The shipped row that a kind of place is held to; None for an op that no row is about.

    Raises ValueError for a kind of place that is not among `PLACES`.
    """
    if kind_of_place not in PLACES:
        raise ValueError(f"expected a kind of place of {', '.join(PLACES)}, received {kind_of_place!r}")
    return _SHIPPED.at(op_type, dtype_name, kind_of_place)


def in_force() -> Allowances:
    """The table that this process judges by: the shipped rows, and those that `use` was given."""
    return _in_force[0]


def use(yours: Iterable[AllowanceRow]) -> None:
    """Judge by a user's rows besides, until the next call; a command calls this once, before anything is judged."""
    _in_force[0] = Allowances(yours)


@contextmanager
def allowances_kept() -> Iterator[None]:
    """What is in force is so again afterwards."""
    before = _in_force[0]
    try:
        yield
    finally:
        _in_force[0] = before


_SHIPPED = Allowances()
_in_force = [_SHIPPED]
