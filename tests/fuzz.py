"""Fuzz every command that opens a trace: `python -m tests.fuzz --minutes 60`.

Prints how often each kind of case ended with which exit code, and what ended badly: with another code than 0, 1 or 2,
after more than 60 s, with more than 2 GiB, or without its one line. A run goes on where the last of its seed stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from tests.hostile.fuzzing import Fuzzed, Fuzzer


def fuzz(minutes: float, seed: int, state: Path | None, cases: float = math.inf) -> Fuzzed:
    """Run cases for so long, or so many, after those that `state` tells of."""
    found = Fuzzed(seed)
    if state is not None and state.exists():
        found = Fuzzed(**json.loads(state.read_text()))
    until, last = time.monotonic() + 60 * minutes, found.next_case + cases
    with tempfile.TemporaryDirectory(prefix="lockstep-fuzz-") as folder:
        fuzzer = Fuzzer(Path(folder), found.seed)
        while time.monotonic() < until and found.next_case < last:
            kind, outcomes = fuzzer.run(found.next_case)
            for outcome in outcomes:
                found.add(found.next_case, kind, outcome)
            found.next_case += 1
            if state is not None:
                state.write_text(json.dumps(asdict(found)))
    return found


def report(found: Fuzzed) -> str:
    lines = [f"seed {found.seed}, {found.next_case:,} cases, {sum(map(_total, found.codes.values())):,} commands"]
    for kind, codes in found.codes.items():
        counts = ", ".join(f"exit {code}: {count:,}" for code, count in sorted(codes.items()))
        lines.append(f"  {kind:<9} {counts}")
    lines.append(f"{len(found.bad):,} ended badly")
    lines += [f"  {bad}" for bad in found.bad[:20]]
    return "\n".join(lines)


def _total(codes: dict[str, int]) -> int:
    return sum(codes.values())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: %(default)s)")
    parser.add_argument("--cases", type=int, default=math.inf, help="at most how many (default: no limit)")
    parser.add_argument("--seed", type=int, default=0, help="other cases (default: %(default)s)")
    parser.add_argument("--state", type=Path, help="a file of what was found, to go on from and to write")
    options = parser.parse_args()
    found = fuzz(options.minutes, options.seed, options.state, options.cases)
    print(report(found))
    return 1 if found.bad else 0


if __name__ == "__main__":
    sys.exit(main())
