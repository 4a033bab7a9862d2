"""A user's own allowances, `--allowances FILE.toml`: read, checked, put in force, and named in the notes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from diag.common.command import file_path
from diag.errors import UserError
from diag.numerics.allowances import AllowanceRow, parse, use
from diag.numerics.op_classes import ErrorClass, class_of

FLAG = "--allowances"
BY_OTHER_MEANS = {ErrorClass.EXACT: "has to give equal bits", ErrorClass.CONTRACTION: "is judged in units of u|A||B|"}
NAMED = 3  # rows named in a note; of more, how many


def add_allowances_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument(
        FLAG,
        metavar="FILE.toml",
        type=file_path,
        help="how many ULP ops may be off by, at which kind of place and who says so, instead of the shipped rows "
        "(docs/BOUNDS.md)",
    )


def read(path: Path | None) -> tuple[AllowanceRow, ...]:
    """The rows of a user's file, none without one; raises UserError.  Needs no TensorFlow."""
    if path is None:
        return ()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "not a text file"
        raise UserError(f"{FLAG} {path}: {reason}; expected a TOML file as docs/BOUNDS.md has it") from error
    try:
        rows = parse(text, yours=True)
    except ValueError as error:
        raise UserError(f"{FLAG} {path}: {error}; docs/BOUNDS.md has an example") from error
    for row in rows:
        if why := BY_OTHER_MEANS.get(class_of(row.op_type)):
            raise UserError(f"{FLAG} {path}: {row.op_type} {why}, and no allowance in ULP applies; leave it out")
    return rows


def put_in_force(path: Path | None, rows: Sequence[AllowanceRow]) -> list[str]:
    """Judge by these rows from now on; gives what the report's notes say of them.

    Raises UserError for an op that TensorFlow does not have.
    """
    from diag.engine.graphs.tf_runtime import op_def

    for row in rows:
        try:
            op_def(row.op_type)
        except KeyError as error:
            raise UserError(
                f"{FLAG} {path}: TensorFlow has no op {row.op_type!r}; expected an op type as reports name it, such "
                "as Tanh or Rsqrt"
            ) from error
    use(rows)
    if not rows:
        return []
    named = [f"{row.op_type} {row.dtype} at {row.place} {row.ulp:g} ULP ({row.source})" for row in rows[:NAMED]]
    more = f", and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return [f"allowances taken from {path}: {', '.join(named)}{more}"]
