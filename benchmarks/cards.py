"""Make the card of a place in several processes, a part of its probes each, and put the parts together.

`python -m benchmarks.cards GPU:0/eager NAME [--out docs/cards] [FLAG ...]`: further flags go to `python -m probes`.
What a part has not read after --limit seconds is missing from the card, and is said to be.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from probes.frame.device_report import DeviceReport, check_unique, read_report

FUNCTIONS = ("accuracy", "composites")  # a file of their own: these have most of the figures
PARTS = (
    ("--family", "fingerprint"),
    ("--family", "exact", "--op", "[CDt]*"),  # convolutions are half of them
    ("--family", "exact", "--op", "[!CDt]*"),
    ("--family", "accuracy"),
    ("--family", "composites"),
    ("--family", "optimizers", "--family", "random"),
)
FAILED, OUT_OF_TIME = 1, "out of time"


def part(place: str, flags: Sequence[str], chosen: Sequence[str], to: Path, limit: float) -> str:
    """Why there is no card of these probes at `to`; empty where there is one."""
    command = [sys.executable, "-m", "probes", "--quiet", "--place", place, *flags, *chosen, "--out", str(to)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
    except subprocess.TimeoutExpired:
        return OUT_OF_TIME
    if to.exists() and done.returncode <= FAILED:
        return ""
    lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
    return lines[-1]


def together(parts: Sequence[DeviceReport]) -> DeviceReport:
    measurements = tuple(measurement for each in parts for measurement in each.measurements)
    check_unique(measurements)
    return replace(parts[0], measurements=measurements)


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser("python -m benchmarks.cards", description=__doc__)
    made.add_argument("place")
    made.add_argument("name")
    made.add_argument("--out", type=Path, default=Path("docs/cards"), metavar="FOLDER")
    made.add_argument("--jobs", type=int, default=len(PARTS), help="processes at a time (default: %(default)s)")
    made.add_argument("--limit", type=float, default=300.0, help="seconds for each process (default: %(default)s)")
    options, flags = made.parse_known_args(arguments)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        paths = [Path(folder) / f"{number}.json" for number in range(len(PARTS))]
        said = list(pool.map(lambda at: part(options.place, flags, *at, options.limit), zip(PARTS, paths, strict=True)))
        cards = [read_report(path) for path in paths if path.exists()]
    for chosen, why in zip(PARTS, said, strict=True):
        if why:
            print(f"missing: {' '.join(chosen)}: {why}", file=sys.stderr)
    if not cards:
        return FAILED
    card = together(cards)
    for suffix, of_functions in (("", False), ("-functions", True)):
        kept = tuple(r for r in card.measurements if (r.family in FUNCTIONS) is of_functions)
        path = options.out / f"{options.name}{suffix}.json"
        path.write_text(replace(card, measurements=kept).to_json(), encoding="utf-8")
        print(f"{path}: {len(kept)} readings, {sum(r.status == 'fail' for r in kept)} failed")
    return FAILED if any(said) else 0


if __name__ == "__main__":
    sys.exit(main())
