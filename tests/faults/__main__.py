"""Plant the catalogue, and say what was found: by this program, and by three others on the same runs.

WORDs choose plantings by name: `tf32 skipped+mlp` is what has tf32 in its name, and what has both of the others.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from typing import Any

from tests.faults.baselines import METHODS
from tests.faults.catalogue import Planting, plantings
from tests.faults.scoring import Score, attempt
from tests.faults.table import line, summary, table


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    words = options.words
    chosen = [p for p in plantings() if not words or any(all(w in p.name for w in each.split("+")) for each in words)]
    scores: list[Score] = []
    out = sys.stderr if options.json else sys.stdout
    for number, (planting, found) in enumerate(scored(chosen, options.jobs)):
        if isinstance(found, str):
            print(f"{number + 1:3}/{len(chosen)} {planting.name} BROKE {found[-300:]}", file=out, flush=True)
            continue
        scores.append(found)
        print(f"{number + 1:3}/{len(chosen)} {line(found)}", file=out, flush=True)
    if options.json:
        print(json.dumps([as_json(each) for each in scores], indent=1))
    else:
        print(f"\n{table(scores)}\n\n{summary(scores)}")
    return 0 if all(s.is_right for s in scores) and len(scores) == len(chosen) else 1


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="all that was said and found, and nothing else, to stdout")
    return parser.parse_args(arguments)


def scored(chosen: Sequence[Planting], jobs: int) -> Iterator[tuple[Planting, Score | str]]:
    """Each planting with its score, or why it has none, in order."""
    if jobs == 1:
        yield from ((planting, attempt(planting)) for planting in chosen)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        yield from zip(chosen, pool.map(attempt, chosen), strict=True)


def as_json(found: Score) -> dict[str, Any]:
    return {
        "planting": found.planting.name,
        "is_control": found.planting.is_control,
        "struck": [str(strike) for strike in found.struck],
        "verdict": found.verdict,
        "first_divergence": found.first,
        "right": {
            "place": found.place_is_right, "cause": found.cause_is_right, "blame": found.blame_is_right,
            **{name: found.right_of(name) for name in METHODS},
        },
        "others": {name: None if named is None else asdict(named) for name, named in found.others.items()},
        "seconds": found.seconds,
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
