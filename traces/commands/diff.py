"""`python -m traces diff`."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from diag.common.command import file_path
from diag.errors import UserError
from traces.commands import flags
from traces.inspector.address import StepSet, parse_address, parse_lanes
from traces.inspector.catalogue import Catalogue
from traces.inspector.comparison import TraceComparison, compare_pairs
from traces.inspector.pairing import PairSelection, pair_all, pair_two
from traces.inspector.reading import opened
from traces.views import comparison as comparison_text
from traces.views.terminal import print_result

SCHEMA = "lockstep-trace-diff/1"
DIFFERENT = 1


class DiffCommand:
    """Say which tensors differ in their bits, and by how much: of two lanes, two steps, two traces, or two tensors"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        parser.add_argument(
            "a",
            metavar="A",
            nargs="?",
            default="*",
            help="with B, one tensor, as KIND/NAME@STEP[:LANE]; without B, a PATTERN of tensors (default: all)",
        )
        parser.add_argument("b", metavar="B", nargs="?", help="another tensor, of this trace or of --other")
        parser.add_argument(
            "--other", metavar="FILE2", type=file_path, help="a second trace, to hold the first against"
        )
        parser.add_argument(
            "--steps",
            "--step",
            nargs="+",
            metavar="STEPS",
            help="such as 3 or 0,3-5; two of them, such as 3 4, to hold one step against another",
        )
        flags.add_lanes(parser)
        parser.add_argument("--all", action="store_true", help="list everything that differs, not only the first")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        with ExitStack() as stack:
            a = Catalogue(stack.enter_context(opened(options.file)))
            b = a if options.other is None else Catalogue(stack.enter_context(opened(_another_file(options))))
            comparison = _compare(options, a, b)
            print_result(
                options.json,
                SCHEMA,
                lambda: {
                    "trace": str(options.file),
                    "other": None if options.other is None else str(options.other),
                    **comparison.to_dict(options.all),
                },
                lambda width: comparison_text.render(comparison, options.all, width),
            )
        return 0 if comparison.is_same else DIFFERENT


def _another_file(options: argparse.Namespace) -> Path:
    """The second trace; a trace is not held against itself, which would say nothing."""
    other: Path = options.other
    if other.exists() and options.file.exists() and other.samefile(options.file):
        raise UserError(f"--other {other} is the same file as {options.file}; expected another trace")
    return other


def _compare(options: argparse.Namespace, a: Catalogue, b: Catalogue) -> TraceComparison:
    known_lanes = a.trace.layout.lanes
    first = parse_address(options.a, known_lanes)
    second = None if options.b is None else parse_address(options.b, known_lanes)
    step_pair, steps = _steps(options.steps, a, b)
    lanes = parse_lanes(options.lanes, known_lanes)
    if second is not None:
        return compare_pairs(pair_two(PairSelection(a, b, step_pair, steps, lanes), first, second))
    if first.steps is not None:
        steps = a.choose(a.select(first), first.steps)
    lanes = (first.lane,) if first.lane else lanes
    return compare_pairs(pair_all(PairSelection(a, b, step_pair, steps, lanes), first))


def _steps(texts: list[str] | None, a: Catalogue, b: Catalogue) -> tuple[tuple[int, int] | None, frozenset[int] | None]:
    """A pair of steps, or some steps, or neither."""
    if not texts:
        return None, None
    if len(texts) == 1:
        return None, a.choose(a.entries, StepSet(texts[0]))
    chosen = [sorted(side.choose(side.entries, StepSet(text))) for text, side in zip(texts, (a, b), strict=False)]
    if len(texts) > 2 or any(len(steps) != 1 for steps in chosen):
        raise UserError(f"--steps {' '.join(texts)}: expected such as 0,3-5, or two single steps, such as 3 4")
    return (chosen[0][0], chosen[1][0]), None
