"""Run controls: healthy places, each against the reference, and keep the largest excess of each kind of output.

A control is one run of diag.lockstep: a model, a policy, a place that computes as well as the reference but not in the
same way, a seed.  `python -m benchmarks.controls --out FOLDER` keeps a file of each, and leaves out those that the
folder has, so that it may be stopped and go on; `--jobs 16` uses sixteen processes.  A real GPU by one command:

    python -m benchmarks.controls --out FOLDER --candidates GPU:0/graph GPU:0/eager GPU:0/xla --tf32 off on --jobs 8

`python -m benchmarks.significance table FOLDER` prints every verdict; its other commands fit and draw the chances.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
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

from diag.common.command import OneLineParser, file_path, positive, run_command
from diag.common.sweep import run
from diag.common.task import Task, key_of

ZOO, VARIOUS, OWN, MODERN = (
    "tests/zoo.py",
    "tests/faults/various.py",
    "tests/faults/models.py",
    "tests/faults/modern.py",
)
HEALTHY, UNSEEN, STREAMS = (f"sim:tests/faults/{name}.py" for name in ("healthy", "unseen", "streams"))
# The data of each model; without a name, numbers that fit its inputs.
MODELS = {
    f"{file}:{model}": f"{file}:{data}" if data else ""
    for file, names in {
        ZOO: "mlp decayed perceptron cnn convolutions lstm xception_block transformer two_blocks shared two_ways",
        VARIOUS: "pictures series=far_from_zero volumes square=large_numbers attentive=padded_sentences picking "
        "choosing noisy spectral signed narrow double ranged=near_the_limit",
        OWN: "wide many_channels sorting turned broad",
        MODERN: "convnext inverted_residual residual unet=masked_pixels vit bigru tied=next_words llama=next_words "
        "vae=themselves two_heads=labels_and_sizes penalized=values two_towers=partners recommender=ratings",
    }.items()
    for model, _, data in (name.partition("=") for name in names.split())
}
TWELVE = [
    f"{MODERN}:{name}"
    for name in "convnext inverted_residual unet vit bigru tied vae two_heads penalized two_towers".split()
] + [f"{ZOO}:cnn", f"{ZOO}:xception_block"]
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
# CPU:0/graph is left out: it agrees with the reference bit for bit.
CANDIDATES = (
    "CPU:0/eager", "CPU:0/xla", "sim:reordered-sums", "sim:winograd-4x4",
    *(f"{HEALTHY}:{name}" for name in (
        "strassen", "strassen_twice", "by_fft", "three_tf32", "nine_bf16", "pairwise", "in_blocks", "backwards",
        "by_threads", "rounded_once", "fast_division",
    )),
    f"{UNSEEN}:other_ties", f"{UNSEEN}:other_signs", f"{STREAMS}:numpys",
)  # fmt: skip
# What has something to do in few models.
IMAGES = (
    "cnn convolutions xception_block pictures series many_channels wide convnext inverted_residual residual unet vit"
)
SUITED = {
    "sim:winograd-4x4": "many_channels",
    f"{HEALTHY}:by_fft": IMAGES,
    f"{UNSEEN}:other_ties": "picking choosing",
    f"{UNSEEN}:other_signs": "spectral signed",
    f"{STREAMS}:numpys": "cnn transformer two_blocks attentive noisy vae",
}
SPLIT = {f"{HEALTHY}:{name}" for name in ("three_tf32", "nine_bf16")}  # narrower operands are what they split into
FAMILIES = ("contraction", "function", "composite", "rounded once", "exact", "layer", "step")
STEPS = 2


@dataclass(frozen=True)
class Control:
    """One run to be made; tf32 is None where TensorFlow's own default is."""

    model: str
    policy: str
    candidate: str
    seed: int
    tf32: str | None = None
    attribute: bool = False

    @property
    def key(self) -> str:
        names = [each.rpartition("/")[2] if "sim:" in each else each for each in (self.model, self.candidate)]
        tf32 = [] if self.tf32 is None else [f"tf32 {self.tf32}"]
        return key_of(" ".join([names[0].rpartition("/")[2], self.policy, names[1], *tf32, str(self.seed)]))

    @property
    def environment(self) -> dict[str, str]:
        """Many processes share one GPU, none of which takes all its memory; what one compiled in TF32 it may keep."""
        return {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "CONTROLS_TF32": self.tf32 or ""}

    def command(self, folder: Path) -> list[str]:
        return [
            "--model", self.model, "--candidate", self.candidate, "--policy", self.policy, "--seed", str(self.seed),
            "--steps", str(STEPS), "--batch-size", "4", "--units", "op", "--dump", "none", "--quiet",
            "--out", str(folder), "--attribute" if self.attribute else "--no-attribute",
            *(["--data", MODELS[self.model]] if MODELS[self.model] else []),
            *(["--tf32", self.tf32] if self.tf32 else []),
        ]  # fmt: skip


def largest(trace: Path, verdict: str) -> dict[str, tuple[int, float]]:
    """Of each family of outputs that were held against truth, how many there were and the largest excess.

    But for what both lanes get wrong with the same bits, and, where nothing was reported, what another choice among
    equals explains: that is no divergence, and no rounding.
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
    excess[((verdicts == "identical") | (verdict != "divergence")) & (excess > 1)] = np.nan
    found = {}
    for family in FAMILIES:
        of_family = excess[np.array([each == family for each in families], bool)]
        judged = of_family[~np.isnan(of_family)]
        if judged.size:
            found[family] = (int(judged.size), float(judged.max()))
    return found


def outcome(**control: Any) -> dict[str, Any]:
    """What one control gave; `changed` counts the ops of which a simulated place made something else."""
    from diag.lockstep import main as lockstep
    from tests.faults.planting import recorded

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        with contextlib.redirect_stderr(io.StringIO()) as said, recorded() as strikes:
            code = lockstep(Control(**control).command(Path(name)))
        changed = len(strikes.by_op) if "sim:" in control["candidate"] else None
        found = {"exit": code, "changed": changed, "seconds": round(time.perf_counter() - start, 2)}
        if code not in (0, 1):
            return {**found, "said": said.getvalue()[-300:]}
        report = json.loads((Path(name) / "report.json").read_text())
        return {
            **found,
            "verdict": report["verdict"],
            "first": _first(report["first_divergence"]),
            "divergences": len(report["divergences"]),
            "drift": report.get("drift"),
            "largest": largest(Path(name) / "trace.h5", report["verdict"]),
        }


def _first(divergence: dict[str, Any] | None) -> dict[str, Any] | None:
    names = ("step", "phase", "unit", "layer", "op_type", "op_index", "cause", "blame", "excess", "cured_by")
    return None if divergence is None else {name: divergence[name] for name in names}


def planned(options: argparse.Namespace) -> list[Task]:
    """In an order that is as mixed whenever it is stopped."""
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    wanted = [
        Control(*each, options.attribute)
        for each in product(options.models, options.policies, options.candidates, seeds, options.tf32 or [None])
        if _has_something_to_do(*each[:3])
    ]
    random.Random(0).shuffle(wanted)
    wanted.sort(key=lambda control: (control.seed, control.tf32 or ""))
    return [
        Task(control.key, "benchmarks.controls:outcome", asdict(control), control.environment, {}, True, options.limit)
        for control in wanted
    ]


def _has_something_to_do(model: str, policy: str, candidate: str) -> bool:
    suits = candidate not in SUITED or model.rpartition(":")[2] in SUITED[candidate].split()
    return suits and (policy == "float32" or candidate not in SPLIT)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """Of each control of a folder what it was and what it gave; the exit code is None where it had no end."""
    lines = []
    for path in sorted(folder.glob("*.json")):
        document = json.loads(path.read_text())
        given = document["value"] or {"exit": None, "seconds": document["seconds"], "said": document["error"]}
        lines.append({**document["task"]["arguments"], **given})
    return lines


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(
        prog="python -m benchmarks.controls", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--out", type=file_path, required=True, metavar="FOLDER")
    made.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS), metavar="FILE.py:FUNCTION")
    made.add_argument(
        "--twelve", dest="models", action="store_const", const=TWELVE, help="twelve of the models, of all kinds"
    )
    made.add_argument("--policies", nargs="+", choices=POLICIES, default=list(POLICIES))
    made.add_argument("--candidates", nargs="+", default=list(CANDIDATES), metavar="PLACE")
    made.add_argument(
        "--tf32", nargs="+", choices=("on", "off"), help="each control so (default: as TensorFlow has it)"
    )
    made.add_argument("--attribute", action="store_true", help="look for cures of what diverges")
    made.add_argument("--seeds", type=positive, default=1, help="so many of each (default: %(default)s)")
    made.add_argument("--first-seed", type=int, default=0)
    made.add_argument("--jobs", type=positive, default=1, help="processes at a time (default: %(default)s)")
    made.add_argument("--limit", type=positive, default=600, help="seconds for each (default: %(default)s)")
    return made


def run_all(options: argparse.Namespace) -> int:
    tasks = planned(options)
    for number, done in enumerate(run(tasks, options.out, jobs=options.jobs), start=1):
        found = done.value or {}
        said = done.error or found.get("verdict") or f"exit {found.get('exit')}: {found.get('said', '').strip()}"
        print(f"{number} of {len(tasks)}: {done.key}: {said}", flush=True)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("benchmarks.controls", parser(), run_all, arguments, "what is in the folder of --out is kept")


if __name__ == "__main__":
    sys.exit(main())
