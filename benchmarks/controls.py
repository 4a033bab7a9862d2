"""Run controls: healthy places, each against the reference, and keep the largest excess of each kind of output.

A control is one run of diag.lockstep: a model, a policy, a place that computes as well as the reference but not in the
same way, a seed.  `python -m benchmarks.controls --out FILE.jsonl` appends a line for each, and leaves out those that
the file has, so that it may be stopped and go on, or go on on another machine; `--jobs 16` uses sixteen cores.
`python -m benchmarks.significance` reads the file.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

ZOO, VARIOUS, OWN, KINDS = "tests/zoo.py", "tests/faults/various.py", "tests/faults/models.py", "tests/kinds.py"
MODELS: dict[str, tuple[str, ...]] = {
    f"{file}:{name}": ()
    for file, names in {
        ZOO: "mlp decayed perceptron cnn convolutions lstm xception_block transformer two_blocks shared two_ways",
        VARIOUS: "pictures series volumes square attentive picking",
        OWN: "wide many_channels sorting turned broad",
    }.items()
    for name in names.split()
} | {
    f"{VARIOUS}:{name}": ("--data", f"{VARIOUS}:{data}")
    for name, data in (("series", "far_from_zero"), ("square", "large_numbers"), ("attentive", "padded_sentences"))
}
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
# CPU:0/graph is left out: it agrees with the reference bit for bit.
CANDIDATES = ("CPU:0/eager", "CPU:0/xla", "sim:reordered-sums", "sim:winograd-4x4")
FAMILIES = ("contraction", "function", "composite", "rounded once", "exact", "layer", "step")
STEPS = 2
RUNS_A_PROCESS = 24  # what Keras and TensorFlow keep of models that are gone grows


@dataclass(frozen=True)
class Control:
    """One run to be made."""

    model: str
    policy: str
    candidate: str
    seed: int

    def command(self, folder: Path) -> list[str]:
        return [
            "--model", self.model, "--candidate", self.candidate, "--policy", self.policy, "--seed", str(self.seed),
            "--steps", str(STEPS), "--batch-size", "4", "--units", "op", "--dump", "none", "--no-attribute", "--quiet",
            "--out", str(folder), *MODELS[self.model],
        ]  # fmt: skip


def largest(trace: Path) -> dict[str, tuple[int, float]]:
    """Of each family of outputs that were held against truth, how many there were and the largest excess.

    But for what both lanes get wrong with the same bits: that is no divergence, and no rounding.
    """
    from diag.numerics.op_classes import class_of
    from traces.reader import TraceReader

    with TraceReader(trace) as reader:
        ops, units = reader.op_table(), reader.unit_table()
    families = [class_of(str(op)).value for op in ops["op_type"]] + [
        str(unit).partition(":")[0] for unit in units["unit"]
    ]
    excess = np.concatenate([ops["excess"], units["excess"]])
    verdicts = np.array([*ops["verdict"], *units["verdict"]], str)
    excess[(verdicts == "identical") & (excess > 1)] = np.nan
    found = {}
    for family in FAMILIES:
        of_family = excess[np.array([each == family for each in families], bool)]
        judged = of_family[~np.isnan(of_family)]
        if judged.size:
            found[family] = (int(judged.size), float(judged.max()))
    return found


def outcome(control: Control) -> dict[str, Any]:
    """What one control gave: its line of the file."""
    from diag.lockstep import main as lockstep

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = lockstep(control.command(Path(name)))
        line = {**asdict(control), "exit": code, "seconds": round(time.perf_counter() - start, 2)}
        if code not in (0, 1):
            return {**line, "said": said.getvalue()[-300:]}
        report = json.loads((Path(name) / "report.json").read_text())
        return {
            **line,
            "verdict": report["verdict"],
            "drift": report.get("drift"),
            "largest": largest(Path(name) / "trace.h5"),
        }


def planned(options: argparse.Namespace) -> list[Control]:
    """Those that the file does not have, in an order that is as mixed whenever it is stopped."""
    known = {tuple(line[key] for key in ("model", "policy", "candidate", "seed")) for line in lines_of(options.out)}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    wanted = [Control(*each) for each in product(options.models, options.policies, options.candidates, seeds)]
    random.Random(0).shuffle(wanted)
    return sorted((c for c in wanted if tuple(asdict(c).values()) not in known), key=lambda control: control.seed)


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser("python -m benchmarks.controls", description=__doc__)
    made.add_argument("--out", type=Path, required=True, metavar="FILE.jsonl")
    made.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="FILE.py:FUNCTION")
    made.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    made.add_argument("--candidates", nargs="+", default=list(CANDIDATES), metavar="PLACE")
    made.add_argument("--seeds", type=int, default=1, help="so many of each (default: %(default)s)")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--jobs", type=int, default=1, help="processes at a time (default: %(default)s)")
    options = made.parse_args(arguments)
    controls = planned(options)
    with options.out.open("a") as file, multiprocessing.get_context("spawn").Pool(
        options.jobs, maxtasksperchild=RUNS_A_PROCESS
    ) as pool:  # fmt: skip
        for number, line in enumerate(pool.imap_unordered(outcome, controls), start=1):
            file.write(json.dumps(line) + "\n")
            file.flush()
            print(f"{number} of {len(controls)}: {line['model']} {line['candidate']}: exit {line['exit']}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
