"""The same training at several places, in several dtype policies, from several seeds: which differ by more than chance?

With no arguments: a small convolutional network on generated images, 3 policies, 3 seeds, the CPU against the first
GPU, or against a simulated place where there is none.  Writes results.csv (and .parquet), curves.h5, figures,
report.json and report.html.  Started again with the same flags and --out it goes on where it was.  Exit code 0: no
candidate leaves what chance does to the reference, 1: one does, or --diagnose finds a divergence, 2: the question could
not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from diag.common.command import (
    OneLineParser,
    add_trust_flag,
    command_parser,
    file_path,
    nameable,
    positive,
    run_command,
    whole,
)
from diag.common.user_code import FORMS
from diag.study.request import DEFAULT_POLICIES, StudyRequest, request_of

LEFT = 1
MOST_RUNS = 1000


def parser() -> OneLineParser:
    parser = command_parser("diag.study", __doc__)
    _add_model_flags(parser)
    _add_run_flags(parser)
    group = parser.add_argument_group("what is printed and written")
    group.add_argument(
        "--out", metavar="FOLDER", type=file_path, help="a new folder, or that of this study (default: runs/<time>)"
    )
    group.add_argument(
        "--diagnose", action="store_true", help="run lockstep where a candidate leaves: what computes wrongly there?"
    )
    group.add_argument("--json", action="store_true", help="print report.json and nothing else")
    group.add_argument("--quiet", action="store_true", help="no progress")
    return parser


def _add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is trained")
    group.add_argument(
        "--model",
        metavar="SPEC",
        type=nameable,
        default="two-hidden",
        help=f"cnn, two-hidden, xception, {FORMS} returning a Keras model, or a .keras file (default: %(default)s)",
    )
    group.add_argument(
        "--data",
        metavar="SPEC",
        type=nameable,
        help=f"{FORMS}, an .npz file, or a folder of class folders (default: generated images of two classes)",
    )
    group.add_argument("--validation", metavar="SPEC", type=nameable, help="data to validate on, as --data takes them")
    group.add_argument(
        "--validation-split",
        default="0.25",
        metavar="SHARE",
        help="of the data, where --validation names none (default: %(default)s)",
    )
    group.add_argument(
        "--image-size",
        type=whole(1, 1024),
        default=150,
        metavar="N",
        help="of generated images, and for a preset of a folder's, which are resized (default: %(default)s)",
    )
    group.add_argument(
        "--samples", type=positive, default=2400, metavar="N", help="generated images (default: %(default)s)"
    )
    group.add_argument("--batch-size", type=positive, default=32, help="samples a step (default: %(default)s)")
    add_trust_flag(group)


def _add_run_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "where and how often", "a place is DEVICE[/EXECUTION]: CPU:0, GPU:0/xla, sim:tf32"
    )
    group.add_argument(
        "--places",
        metavar="PLACE,...",
        help="the reference first, then the candidates (default: CPU:0 and the first GPU, or a simulated place)",
    )
    group.add_argument(
        "--policies", default=",".join(DEFAULT_POLICIES), metavar="POLICY,...", help="(default: %(default)s)"
    )
    group.add_argument("--truth", action="store_true", help="float64 on the CPU too")
    group.add_argument("--seeds", type=whole(1, MOST_RUNS), default=3, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--twins",
        type=whole(0, MOST_RUNS),
        default=1,
        metavar="N",
        help="for each seed the reference N times more, its first weights moved by one rounding (default: %(default)s)",
    )
    group.add_argument("--epochs", type=positive, default=12, metavar="N", help="(default: %(default)s)")
    group.add_argument(
        "--tf32", choices=("on", "off"), help="TensorFloat-32 on NVIDIA GPUs (default: TensorFlow's own)"
    )
    group.add_argument("--deterministic", action="store_true", help="TensorFlow's op determinism (slower)")
    group.add_argument("--jobs", type=positive, metavar="N", help="runs at a time here (default: half of the cores)")
    group.add_argument("--cluster", metavar="ADDRESS", help="a Dask scheduler whose workers do them (docs/SWEEPS.md)")


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command(
        "study",
        parser(),
        lambda options: study(request_of(options)),
        arguments,
        left="each finished epoch is kept, and the same command with --out of its folder goes on from there",
    )


def study(request: StudyRequest) -> int:
    from diag.study.studying import studied  # HDF5 and NumPy: not for --help

    report = studied(request)
    if request.json:
        print((request.folder / "report.json").read_text(encoding="utf-8"), end="")
    else:
        from diag.common.terminal import ReportConsole

        report.show(ReportConsole(), str(Path(request.folder)))
    return LEFT if report.is_bad else 0


if __name__ == "__main__":
    sys.exit(main())
