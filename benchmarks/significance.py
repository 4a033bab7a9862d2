"""From controls to chances: fit the tail of their excess, and see how well it foretells controls that it has not seen.

`table` prints what `python -m benchmarks.controls` found; `fit` writes diag/data/controls.toml from it; `figure` draws
the reliability curve, for which the models are dealt into folds, each foretold by the others; `reliability` prints it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.controls import FAMILIES, lines_of
from diag.numerics.tails import ParetoTail, TailedSample

DATA = Path("diag/data/controls.toml")
ABOUT = """\
# How far healthy places came: of each control (a short run against the reference) and each family of outputs the
# largest error over its bound, sorted; above `threshold` a generalized Pareto distribution.  docs/BOUNDS.md, Measured
# significance, says more.  Made by `python -m benchmarks.controls` and `python -m benchmarks.significance fit`."""
FIGURE = Path("docs/images/reliability.png")
IN_TAIL = 0.2  # this share of the largest values is the tail
FEWEST_IN_TAIL = 20
FOLDS = 6
FORETOLD = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
KEYS = ("model", "policy", "candidate", "tf32", "seed")
NOTHING, NOT_RUN = "changed nothing", "not run"
VERDICTS = ("identical", "rounding", "divergence", NOTHING, NOT_RUN)
DRAWN = {"layer": "#4477AA", "contraction": "#EE6677", "function": "#228833", "composite": "#AA3377"}


def sample_of(values: Sequence[float]) -> TailedSample:
    """The values, and a generalized Pareto tail over the largest fifth of them.

    A negative shape would say that nothing beyond some point can be: then the exponential tail is taken instead.
    """
    from scipy.stats import genpareto

    ordered = np.sort(np.array(values, np.float64))
    threshold = float(np.quantile(ordered, 1 - IN_TAIL, method="lower"))
    beyond = ordered[ordered > threshold] - threshold
    if beyond.size < FEWEST_IN_TAIL:
        return TailedSample(tuple(ordered.tolist()))
    shape, _, scale = genpareto.fit(beyond, floc=0.0)
    if shape < 0:
        shape, scale = 0.0, beyond.mean()
    share = float(beyond.size / ordered.size)
    return TailedSample(tuple(ordered.tolist()), ParetoTail(threshold, share, float(shape), float(scale)))


def largest_by_family(lines: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Of places that come to the same figure with one model, policy and seed, one: they computed the same."""
    found = {
        family: {_key(line, family): line["largest"][family][1] for line in lines if family in line["largest"]}
        for family in FAMILIES
    }
    return {family: list(values.values()) for family, values in found.items() if values}


def _key(line: dict[str, Any], family: str) -> tuple[Any, ...]:
    return line["model"], line["policy"], line["seed"], line["largest"][family][1]


def ended(path: Path) -> list[dict[str, Any]]:
    """The controls that were run to their end."""
    return [line for line in lines_of(path) if line["exit"] in (0, 1)]


def table(options: argparse.Namespace) -> int:
    """Every control, then how many there were of each place, and what was said of those that were reported."""
    lines = sorted(lines_of(options.controls), key=lambda line: [str(line[name]) for name in KEYS])
    _print_rows(("model", "policy", "place", "seed", "verdict", "largest excess", "seconds"), map(_row, lines))
    places = dict.fromkeys(map(_place, lines))
    print()
    _print_rows(
        ("place", *VERDICTS, "largest excess"), (_counts(p, [x for x in lines if _place(x) == p]) for p in places)
    )
    for line in lines:
        if line["exit"] != 0:
            print(f"\n{', '.join(map(str, _row(line)[:4]))}: {_said(line)}")
    return 0


def _print_rows(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for row in (head, ["---"] * len(head), *rows):
        print(f"| {' | '.join(map(str, row))} |")


def _row(line: dict[str, Any]) -> Sequence[object]:
    model = str(line["model"]).rpartition("/")[2].replace(".py:", ":")
    return model, line["policy"], _place(line), line["seed"], _verdict(line), _most(line), round(line["seconds"])


def _counts(place: str, lines: Sequence[dict[str, Any]]) -> Sequence[object]:
    verdicts = [_verdict(line) for line in lines]
    return place, *map(verdicts.count, VERDICTS), _most(*lines)


def _place(line: dict[str, Any]) -> str:
    place = re.sub(r"sim:.*/(\w+).py:", r"sim:\1:", line["candidate"])
    return place if line.get("tf32") is None else f"{place}, TF32 {line['tf32']}"


def _verdict(line: dict[str, Any]) -> str:
    """Of one that did nothing of its own, or was not run to its end, that."""
    return NOTHING if line.get("changed") == 0 else line.get("verdict", NOT_RUN)


def _most(*lines: dict[str, Any]) -> str:
    """The largest excess and what it is of; a correctly rounded result is at its bound by construction."""
    found = [
        (float(each[1]), family) for line in lines for family, each in line.get("largest", {}).items()
        if float(each[1]) > 1 or family != "rounded once"
    ]  # fmt: skip
    return "{:.3g} ({})".format(*max(found)) if found else ""


def _said(line: dict[str, Any]) -> str:
    first = line.get("first")
    if first is None:
        return " ".join(line.get("said", "").split())
    where = [f"step {first['step']}", *(str(first[name]) for name in ("phase", "layer", "op_type", "op_index"))]
    cured = f", cured by {', '.join(first['cured_by'])}" if first["cured_by"] else ""
    others = f"; {line['divergences']} in all" if line["divergences"] > 1 else ""
    excess = float(first["excess"])
    return f"{' '.join(where)}: {first['cause']}, blame {first['blame']}, excess {excess:.3g}{cured}{others}"


def fit(options: argparse.Namespace) -> int:
    lines = ended(options.controls)
    tables = [_table_of(family, sample_of(values)) for family, values in largest_by_family(lines).items()]
    head = [f"{name} = {json.dumps(value)}" for name, value in _made_of(lines).items()]
    options.to.write_text("\n\n".join([ABOUT, "\n".join(head), *tables]) + "\n")
    print(f"wrote {options.to}: {len(lines)} controls")
    return 0


def _made_of(lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kinds = {f"{name}s": sorted({line[name] for line in lines}) for name in ("model", "candidate")}
    kinds["policies"] = sorted({line["policy"] for line in lines})
    return {
        "machine": f"{platform.machine()}, TensorFlow {version('tensorflow')}", "num_controls": len(lines), **kinds
    }  # fmt: skip


def _table_of(family: str, sample: TailedSample) -> str:
    largest = ", ".join(f"{value:.3g}" for value in sample.values)
    rows = [f'[families."{family}"]', *textwrap.wrap(f"largest = [{largest}]", 118, subsequent_indent="    ")]
    if sample.tail is not None:
        rows.append("tail = { " + ", ".join(f"{name} = {x:.4g}" for name, x in asdict(sample.tail).items()) + " }")
    return "\n".join(rows)


# -- reliability -----------------------------------------------------------------------------------


def foretold(lines: Sequence[dict[str, Any]], family: str) -> np.ndarray:
    """Of each control the chance of its largest excess, by the controls of the models of other folds."""
    folds = {model: number % FOLDS for number, model in enumerate(sorted({line["model"] for line in lines}))}
    chances = []
    for fold in range(FOLDS):
        known = [line for line in lines if folds[line["model"]] != fold]
        sample = sample_of(largest_by_family(known).get(family, [0.0]))
        others = [line for line in lines if folds[line["model"]] == fold]
        chances += [_chance(sample, x) for x in largest_by_family(others).get(family, [])]
    return np.array(chances)


def _chance(sample: TailedSample, x: float) -> float:
    extrapolated = sample.extrapolated(x)
    return sample.chance(x) if extrapolated is None else extrapolated


def reliability(lines: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, list[float]]]:
    """Of each family how many controls were foretold, and the share with a chance of at most each of `FORETOLD`."""
    for family in DRAWN:
        chances = foretold(lines, family)
        if chances.size:
            yield family, chances.size, [float(np.mean(chances <= p)) for p in FORETOLD]


def print_reliability(options: argparse.Namespace) -> int:
    print("| family | controls | " + " | ".join(f"{p:g}" for p in FORETOLD) + " |")
    for family, size, shares in reliability(ended(options.controls)):
        print(f"| {family} | {size} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    return 0


def figure(options: argparse.Namespace) -> int:
    """Predicted against observed, with the band in which 95 of 100 such shares lie where the chances are right."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from scipy.stats import binom

    lines = ended(options.controls)
    shown, axes = plt.subplots(figsize=(6, 5), constrained_layout=True)
    grid = np.geomspace(0.003, 1, 60)
    by_family = {family: foretold(lines, family) for family in DRAWN}
    size = min(chances.size for chances in by_family.values() if chances.size)
    low, high = (binom.ppf(q, size, grid) / size for q in (0.025, 0.975))
    axes.fill_between(grid, np.maximum(low, 1e-4), high, color="0.9", label=f"95% of {size} draws")
    axes.plot(grid, grid, color="black", linewidth=1)
    for family, chances in by_family.items():
        observed = [float(np.mean(chances <= p)) if chances.size else np.nan for p in grid]
        axes.plot(grid, observed, color=DRAWN[family], label=f"{family} ({chances.size} controls)")
    axes.set(
        xscale="log", yscale="log", xlim=(0.003, 1), ylim=(0.002, 1.05),
        xlabel="chance that is foretold by other models' controls", ylabel="share of controls with so small a chance",
    )  # fmt: skip
    axes.legend(frameon=False)
    shown.savefig(options.to, dpi=110)
    print(f"wrote {options.to}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    made = argparse.ArgumentParser("python -m benchmarks.significance", description=__doc__)
    commands = made.add_subparsers(required=True)
    for name, command, to in (
        ("table", table, None), ("fit", fit, DATA), ("figure", figure, FIGURE),
        ("reliability", print_reliability, None),
    ):  # fmt: skip
        asked = commands.add_parser(name)
        asked.add_argument("controls", type=Path, metavar="FOLDER", help="what benchmarks.controls wrote")
        if to is not None:
            asked.add_argument("--to", type=Path, default=to, metavar="FILE", help="(default: %(default)s)")
        asked.set_defaults(command=command)
    options = made.parse_args(arguments)
    return int(options.command(options))


if __name__ == "__main__":
    sys.exit(main())
