"""Measure the speed of the engine as ratios to the plain training steps that it watches.

Each ratio is of rounds interleaved in one process, on the motivating CNN.  It is that of the shortest
rounds, which other processes disturbed least; where the medians say otherwise of the target, `unsure`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.timing import Row
    from benchmarks.workload import Workload

MEASUREMENTS = ("telescope", "microscope", "dump", "memory", "statistics", "help")
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
    made.add_argument("--json", action="store_true", help="print the rows as JSON and nothing else")
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
        if name == "telescope":
            made = workload()
            from benchmarks import telescope

            yield from telescope.measure(made, rounds)
        elif name == "microscope":
            made = workload()
            from benchmarks import microscope

            yield from microscope.measure(made, rounds)
        elif name == "dump":
            from benchmarks import dump

            yield from dump.measure(image_size, batch_size)
        elif name == "memory":
            from benchmarks import memory

            yield from memory.measure(memory.Size(image_size, batch_size))
        elif name == "statistics":
            from benchmarks import statistics

            yield from statistics.measure(image_size, batch_size, rounds)
        else:
            from benchmarks import help

            yield from help.measure(rounds)


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
    if options.json:
        print(json.dumps({"rows": [row.to_dict() for row in found], "load": note}, indent=1))
    else:
        from benchmarks.table import show

        show(found, f"{options.image_size}x{options.image_size} images, batch {options.batch_size}; {note}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
