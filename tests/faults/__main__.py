"""python -m tests.faults [WORD ...]: plant the catalogue, print what was found.

WORDs choose plantings by name: `tf32 skipped+mlp` is what has tf32 in its name, and what has both of the others.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.faults.catalogue import plantings
from tests.faults.scoring import Score, score


def main(words: list[str]) -> int:
    chosen = [p for p in plantings() if not words or any(all(w in p.name for w in each.split("+")) for each in words)]
    scores = []
    for number, planting in enumerate(chosen):
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = score(planting, Path(folder) / "out")
            except RuntimeError as error:
                print(f"{planting.name:60} BROKE {str(error)[-300:]}", flush=True)
                continue
        scores.append(found)
        print(f"{number + 1:3}/{len(chosen)} {line(found)}", flush=True)
    print(summary(scores))
    return 0 if all(s.is_right for s in scores) and len(scores) == len(chosen) else 1


def line(found: Score) -> str:
    marks = "".join(
        mark if right else "-"
        for mark, right in (("P", found.place_is_right), ("C", found.cause_is_right), ("B", found.blame_is_right))
    )
    said = found.verdict
    if found.first is not None:
        f = found.first
        where = f"op {f['op_index']} {f['op_type']}" if f["unit"] == "op" else f"{f['unit']} {f['variable'] or ''}"
        said = f"step {f['step']} {f['phase']} {where} of {f['layer']}: {f['cause']} / {f['blame']}"
    struck = "" if found.place_is_right else f"   [struck: {found.struck[-1] if found.struck else 'nothing'}]"
    return f"{marks} {found.seconds:5.1f} s  {found.planting.name:52} {said}{struck}"


def summary(scores: list[Score]) -> str:
    faults = [s for s in scores if not s.planting.is_control]
    controls = [s for s in scores if s.planting.is_control]

    def count(name: str) -> str:
        return f"{name.split('_')[0]} {sum(getattr(s, name) for s in faults)}"

    rights = ", ".join(map(count, ("place_is_right", "cause_is_right", "blame_is_right", "is_right")))
    return (
        f"{len(faults)} faults: {rights} all three; {len(controls)} controls: "
        f"{sum(s.place_is_right for s in controls)} without a divergence"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
