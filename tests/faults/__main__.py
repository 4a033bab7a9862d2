"""Plant the catalogue, and say what was found: by this program, and by three others on the same runs.

WORDs choose plantings by name: `tf32 skipped+mlp` is what has tf32 in its name, and what has both of the others.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from diag.common.command import OneLineParser, file_path, positive, run_command
from diag.common.sweep import results, run
from diag.common.task import Task, key_of
from diag.machine.hardware import WITHOUT_GPU
from tests.faults.baselines import METHODS
from tests.faults.catalogue import Planting, plantings
from tests.faults.scoring import Score, score_in
from tests.faults.table import line, summary, table


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("tests.faults", parser(), plant, arguments, "what is in the folder of --resume is kept")


def parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="WORD")
    parser.add_argument("--jobs", type=positive, default=1, help="processes (default: %(default)s)")
    parser.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler whose workers do it (docs/SWEEPS.md)")
    parser.add_argument(
        "--resume", type=file_path, metavar="FOLDER", help="keep each result there, and begin none twice"
    )
    parser.add_argument("--json", action="store_true", help="all that was said and found, and nothing else, to stdout")
    return parser


def plant(options: argparse.Namespace) -> int:
    words = options.words
    chosen = [p for p in plantings() if not words or any(all(w in p.name for w in each.split("+")) for each in words)]
    tasks = {task_of(planting).key: (task_of(planting), planting) for planting in chosen}
    all_tasks = [task for task, _ in tasks.values()]
    out = sys.stderr if options.json else sys.stdout
    with folder_of(options) as folder:
        done = run(all_tasks, folder, jobs=options.jobs, cluster=options.cluster)
        for number, each in enumerate(done, 1):
            planting = tasks[each.key][1]
            said = f"{planting.name} BROKE {each.error}" if each.error else line(score_in(each.value, planting))
            print(f"{number:3}/{len(tasks)} {said}", file=out, flush=True)
        scores = [score_in(e.value, tasks[e.key][1]) for e in results(all_tasks, folder) if e.error is None]
    if options.json:
        print(json.dumps([as_json(each) for each in scores], indent=1))
    else:
        print(f"\n{table(scores)}\n\n{summary(scores)}")
    return 0 if all(s.is_right for s in scores) and len(scores) == len(chosen) else 1


def task_of(planting: Planting) -> Task:
    """Every planting is on the CPU."""
    arguments = {"name": planting.name}
    return Task(key_of(planting.name), "tests.faults.scoring:score_of", arguments, WITHOUT_GPU, shares_process=True)


@contextmanager
def folder_of(options: argparse.Namespace) -> Iterator[Path]:
    if options.resume is not None:
        yield options.resume
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


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
