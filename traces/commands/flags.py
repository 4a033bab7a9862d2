"""Flags that mean the same in every subcommand."""

from __future__ import annotations

import argparse
from typing import Protocol

from diag.common.command import file_path
from traces.inspector.address import StepSet


class Command(Protocol):
    """One subcommand; its docstring is its help."""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int:
        """Do it; returns the exit code."""
        ...


def add_trace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=file_path, help="the trace, such as runs/20260101-120000/trace.h5")


def add_pattern(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "pattern",
        metavar="PATTERN",
        nargs="?",
        default="*",
        help="KIND/NAME, NAME, KIND or LAYER, with globs, and where wanted @STEPS[:LANE]: 'gradients/dense*@3'",
    )


def add_steps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--steps", "--step", metavar="STEPS", help="such as 3, 0,3-5, last or '*'; the same as @STEPS behind a name"
    )


def steps_of(options: argparse.Namespace) -> StepSet | None:
    return None if options.steps is None else StepSet(options.steps)


def add_lanes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--lanes", "--lane", metavar="LANE[,LANE]", help="one, or two to compare (default: the trace's first two)"
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print one JSON document and nothing else")
