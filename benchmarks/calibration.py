"""Measure what healthy and faulty places do to the bounds: many runs of diag.lockstep, one table, one figure.

`run` makes the runs, each in a process of its own, and keeps report and trace of each; `table` prints verdicts and
the largest excess of each; `figure` draws how excess is distributed over healthy and faulty ops; `collect` keeps
what `figure` needs in one small file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HEALTHY = ("CPU:0/eager", "CPU:0/graph", "CPU:0/xla", "sim:reordered-sums", "sim:winograd-4x4")
FAULTY = ("sim:tf32", "sim:tf32-truncate", "sim:bf16-inputs", "sim:gemm-11bit", "sim:fp16-accumulate")
MODELS = {
    "cnn": [],
    "mlp": ["--model", "tests/zoo.py:mlp"],
    "xception": ["--model", "tests/zoo.py:xception_block"],
    "lstm": ["--model", "tests/zoo.py:lstm"],
    "transformer": ["--model", "tests/zoo.py:transformer"],
}
STEPS = {"cnn": 200}
OTHER_STEPS, FAULTY_STEPS = 50, 2
FLOAT16 = {"sim:fp16-accumulate"}  # what these do shows only where products are in float16
PRODUCTS = ("MatMul", "Conv")
OUT_OF_TIME = 124  # as timeout(1) says it


@dataclass(frozen=True)
class Job:
    """One run: a model, a candidate, and flags of diag.lockstep."""

    model: str
    candidate: str
    steps: int
    flags: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        words = [self.model, self.candidate, *self.flags]
        return "_".join(word.strip("-").replace(":", "-").replace("/", "-") for word in words)

    def command(self, folder: Path) -> list[str]:
        return [
            sys.executable, "-m", "diag.lockstep", *MODELS[self.model], "--candidate", self.candidate,
            "--steps", str(self.steps), "--dump", "none", "--no-attribute", "--out", str(folder / self.name), "--quiet",
            *self.flags,
        ]  # fmt: skip


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    for model in options.models:
        steps = options.steps or STEPS.get(model, OTHER_STEPS)
        for candidate in options.candidates:
            if candidate in FAULTY:
                flags = ("--policy", "mixed_float16") if candidate in FLOAT16 else ()
                yield Job(model, candidate, FAULTY_STEPS, flags)
            elif model == "lstm" and candidate.endswith("/xla"):
                continue  # XLA cannot compile Keras's own recurrent loop
            elif candidate.startswith("GPU"):
                yield from (Job(model, candidate, steps, ("--tf32", tf32)) for tf32 in ("on", "off"))
            else:
                yield Job(model, candidate, steps)


def run(options: argparse.Namespace) -> int:
    options.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        for job, code, seconds in pool.map(lambda job: _one(job, options), list(jobs(options))):
            print(f"{job.name}: exit {code}, {seconds:.0f} s", flush=True)
    return 0


def _one(job: Job, options: argparse.Namespace) -> tuple[Job, int, float]:
    start = time.perf_counter()
    log = options.out / f"{job.name}.log"
    with log.open("w") as file:
        try:
            done = subprocess.run(
                job.command(options.out), stdout=file, stderr=subprocess.STDOUT, check=False, timeout=options.limit
            )
            code = done.returncode
        except subprocess.TimeoutExpired:
            code = OUT_OF_TIME
    return job, code, time.perf_counter() - start


def summaries(folder: Path) -> Iterator[dict[str, object]]:
    """What each run found, and how near its bounds it came."""
    for report in sorted(folder.glob("*/report.json")):
        found = json.loads(report.read_text())
        first = found["first_divergence"]
        excess = excesses(report.parent / "trace.h5")
        judged = found["lanes"]["candidate"]["judged"]
        yield {
            "run": report.parent.name,
            "verdict": found["verdict"],
            "steps": found["steps"],
            "layer outputs": judged["layer_outputs"],
            "op outputs": judged["op_outputs"],
            "largest of ops": _largest(excess["ops"]),
            "largest of layers": _largest(excess["units"]),
            "first": "" if first is None else f"{first['op_type'] or first['layer']} {first['cause']}",
        }


def excesses(trace: Path) -> dict[str, np.ndarray]:
    """Every excess of a run: of `products` (MatMul, Conv), of all `ops`, of layer `units`."""
    from traces.reader import TraceReader

    with TraceReader(trace) as reader:
        ops, units = reader.op_table(), reader.unit_table()
    types = np.array([any(word in op for word in PRODUCTS) for op in ops["op_type"]], bool)
    return {"ops": ops["excess"], "products": ops["excess"][types], "units": units["excess"]}


def _largest(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else float("nan")


def table(options: argparse.Namespace) -> int:
    found = list(summaries(options.out))
    if options.json:
        print(json.dumps(found, indent=1))
        return 0
    for row in found:
        print("| " + " | ".join(f"{v:.2g}" if isinstance(v, float) else str(v) for v in row.values()) + " |")
    return 0


def figure(options: argparse.Namespace) -> int:
    """Histograms of log10(excess): ops and layers of healthy runs, products of faulty ones."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = collected(options.out)
    for other in options.more:
        with np.load(other) as file:
            for key in file.files:
                name, _, part = key.rpartition("/")
                found.setdefault(f"{other.stem} {name}", {})[part] = file[key]
    healthy = [parts for name, parts in found.items() if not _is_faulty(name)]
    faulty = [parts for name, parts in found.items() if _is_faulty(name)]
    series = {
        "ops of healthy runs": [x["ops"] for x in healthy],
        "layers of healthy runs": [x["units"] for x in healthy],
        "products of faulty runs": [x["products"] for x in faulty],
    }
    shown, axes = plt.subplots(figsize=(8, 4), constrained_layout=True)
    for (label, parts), color in zip(series.items(), ("#4477AA", "#66CCEE", "#EE6677"), strict=True):
        values = np.concatenate(parts) if parts else np.empty(0)
        values = values[np.isfinite(values) & (values > 0)]
        axes.hist(np.log10(values), np.arange(-6, 6.1, 0.1), color=color, alpha=0.7, label=f"{label} ({values.size:,})")
    axes.axvline(0, color="black", linewidth=1)
    axes.set(xlabel="log10 of excess (error over bound); 0 is the verdict's line", ylabel="outputs", yscale="log")
    axes.legend(frameon=False)
    shown.savefig(options.to, dpi=110)
    print(f"wrote {options.to}")
    return 0


def collected(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Every excess of every run of a folder, by the run's name."""
    return {path.parent.name: excesses(path) for path in sorted(folder.glob("*/trace.h5"))}


def collect(options: argparse.Namespace) -> int:
    """Keep the excesses of a folder in one file, to be drawn with those of another machine."""
    arrays = {f"{name}/{part}": x for name, parts in collected(options.out).items() for part, x in parts.items()}
    np.savez_compressed(options.to, **arrays)
    print(f"wrote {options.to}")
    return 0


def _is_faulty(name: str) -> bool:
    return any(place.replace(":", "-") in name.split("_") for place in FAULTY) or "tf32_on" in name


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser("python -m benchmarks.calibration", description=__doc__)
    commands = made.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    running.add_argument("--candidates", nargs="+", default=[*HEALTHY, *FAULTY], metavar="PLACE")
    running.add_argument("--steps", type=int, help="of healthy runs (default: 200 of the CNN, 50 of the others)")
    running.add_argument("--jobs", type=int, default=1, help="runs at a time (default: %(default)s)")
    running.add_argument("--limit", type=float, help="seconds for one run")
    running.set_defaults(command=run)
    showing = commands.add_parser("table")
    showing.add_argument("--json", action="store_true")
    showing.set_defaults(command=table)
    drawing = commands.add_parser("figure")
    drawing.add_argument("--to", type=Path, default=Path("docs/images/excess.png"))
    drawing.add_argument("--more", type=Path, nargs="*", default=[], metavar="FILE.npz", help="of other machines")
    drawing.set_defaults(command=figure)
    dump_policy = commands.add_parser("collect")
    dump_policy.add_argument("--to", type=Path, required=True, metavar="FILE.npz")
    dump_policy.set_defaults(command=collect)
    for command in (running, showing, drawing, dump_policy):
        command.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the runs are")
    options = made.parse_args(arguments)
    return int(options.command(options))


if __name__ == "__main__":
    sys.exit(main())
