"""Measure the speed of the engine as ratios to the plain training steps that it watches.

Of `models`, each figure is of a process of its own, on models that people train.  Each other ratio is of rounds
interleaved in one process, on the motivating CNN.  It is that of the shortest rounds, which other processes disturbed
least; where the medians say otherwise of the target, `unsure`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.real_models import ROUNDING
from benchmarks.subjects import SUBJECTS

if TYPE_CHECKING:
    from benchmarks.timing import Row
    from benchmarks.workload import Workload

MEASUREMENTS = ("models", "telescope", "microscope", "dump", "memory", "statistics", "callback", "long", "help")
SMALLEST_IMAGE = 46  # the motivating CNN's four unpadded convolutions and poolings leave one pixel of it


def at_least(smallest: int, text: str) -> int:
    number = int(text) if text.isdecimal() else 0
    if number < smallest:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least {smallest}, received {text!r}")
    return number


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--only", choices=MEASUREMENTS, action="append", help="may be repeated")
    made.add_argument(
        "--image-size", type=lambda text: at_least(SMALLEST_IMAGE, text), default=150, metavar="PIXELS",
        help="height and width (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--batch-size", type=lambda text: at_least(2, text), default=32, metavar="N",
        help="samples a step (default: %(default)s)",
    )  # fmt: skip
    made.add_argument(
        "--rounds", type=lambda text: at_least(1, text), default=5, metavar="N",
        help="of each subject; fewer where they take minutes (default: %(default)s)",
    )  # fmt: skip
    made.add_argument("--models", choices=SUBJECTS, action="append", help="may be repeated (default: all)")
    made.add_argument(
        "--candidate", default=ROUNDING, metavar="PLACE", help="of the models (default: one that differs by rounding)"
    )
    made.add_argument("--jobs", type=lambda text: at_least(1, text), default=1, metavar="N", help="models at a time")
    made.add_argument(
        "--seconds-each", type=lambda text: at_least(1, text), default=900, metavar="S", help="for a process of a model"
    )
    made.add_argument(
        "--long-steps", type=lambda text: at_least(40, text), default=10_000, metavar="N",
        help="of a long run (default: %(default)s)",
    )  # fmt: skip
    made.add_argument("--json", action="store_true", help="print the rows as JSON and nothing else")
    made.add_argument("--markdown", metavar="FILE", type=Path, help="also write the rows as a page of the docs")
    made.add_argument(
        "--also", metavar="FILE", type=Path, action="append", default=[],
        help="rows that --json printed elsewhere, to stand on that page too; may be repeated",
    )  # fmt: skip
    return made


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """The rows of the measurements asked for, in the table's order."""
    image_size, batch_size, rounds = options.image_size, options.batch_size, options.rounds

    @cache
    def workload() -> Workload:
        from diag.machine.tensorflow_import import import_tensorflow

        import_tensorflow()
        from benchmarks.workload import motivating_workload

        return motivating_workload(image_size, batch_size)

    for name in options.only or MEASUREMENTS:
        print(f"measuring {name} ...", file=sys.stderr)
        if name == "models":
            from benchmarks import real_models

            models = options.models or list(SUBJECTS)
            yield from real_models.measure(
                real_models.Asked(models, options.candidate, options.jobs, options.seconds_each)
            )
        elif name in ("telescope", "microscope"):
            made = workload()
            yield from import_module(f"benchmarks.{name}").measure(made, rounds)
        elif name == "dump":
            from benchmarks import dump

            yield from dump.measure(image_size, batch_size)
        elif name == "memory":
            from benchmarks import memory

            yield from memory.measure(memory.Size(image_size, batch_size))
        elif name == "statistics":
            from benchmarks import statistics

            yield from statistics.measure(image_size, batch_size, rounds)
        elif name == "long":
            from benchmarks import long_runs

            yield from long_runs.measure(options.long_steps)
        else:
            yield from import_module(f"benchmarks.{name}").measure(rounds)


def load_note(before: float, after: float, num_cores: int) -> str:
    """How busy the machine was, and whether that is more than this measurement itself."""
    note = f"load average {before:.1f} before, {after:.1f} after, on {num_cores} cores"
    if before > 0.25 * num_cores:
        note += "; other processes were running, so trust no ratio near its target: measure again when idle"
    return note


def main() -> int:
    options = parser().parse_args()
    before = os.getloadavg()[0]
    found = list(rows(options))
    note = load_note(before, os.getloadavg()[0], os.cpu_count() or 1)
    told = {"machine": machine(options.candidate), "rows": [row.to_dict() for row in found], "load": note}
    if options.json:
        print(json.dumps(told, indent=1))
    else:
        from benchmarks.table import show

        show(found, f"{options.image_size}x{options.image_size} images, batch {options.batch_size}; {note}")
    if options.markdown is not None:
        from benchmarks.table import page

        options.markdown.write_text(page([told, *(json.loads(path.read_text()) for path in options.also)]))
    return 0


def machine(candidate: str) -> str:
    """Where this was measured, and the candidate of the models."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras"))
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {versions}; candidate {candidate}"


if __name__ == "__main__":
    sys.exit(main())
