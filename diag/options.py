"""Flags that mean the same in every command.  No TensorFlow is imported here."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from diag.common.child import add_memory_flag
from diag.common.command import add_trust_flag, add_verbose_flag, file_path, nameable, positive, seed, whole
from diag.common.modes import MODES, PREDICT, TRAIN
from diag.common.user_code import FORMS
from diag.errors import UserError
from diag.machine.places import EXECUTIONS, POLICIES, Place, parse_place
from diag.verdict.substitution import OP

UNITS = ("op", "layer", "step")
FOLLOW = ("reference", "candidate", "free")
FEWEST_TWINS = 3  # as in diag/numerics/envelope.py: fewer have hardly a spread
TRACE = "trace:"
DEFAULT_STEPS = 20
MOST_STEPS = 10_000_000  # at a millisecond each they are three hours
MOST_TWINS = 1000


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is trained, or predicts")
    group.add_argument(
        "--mode",
        choices=MODES,
        help=f"{TRAIN} it (default), or {PREDICT}: what model.predict computes of each batch, with no targets and no "
        "optimizer",
    )
    group.add_argument(
        "--model", metavar="SPEC", type=nameable, help=f"{FORMS} returning a Keras model, or a .keras file"
    )
    group.add_argument(
        "--data", metavar="SPEC", type=nameable, help=f"{FORMS}, an .npz file, or a folder of class folders"
    )
    add_steps_flag(group)
    group.add_argument("--batch-size", type=positive, default=32, help="samples a step (default: %(default)s)")
    group.add_argument("--seed", type=seed, default=0, help="of weights, data and order (default: %(default)s)")
    group.add_argument("--policy", choices=POLICIES, help="Keras dtype policy of both places")


def add_steps_flag(parser: argparse._ActionsContainer) -> None:
    parser.add_argument("--steps", type=whole(1, MOST_STEPS), help=f"steps, a batch each (default: {DEFAULT_STEPS})")


def _place_or_trace(text: str) -> str:
    if text.startswith(TRACE):
        nameable(text.removeprefix(TRACE))
    return text


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("where", "a place is DEVICE[/EXECUTION][/POLICY]: CPU:0, GPU:0/eager, sim:tf32")
    group.add_argument(
        "--reference",
        metavar="PLACE",
        type=_place_or_trace,
        default="CPU:0",
        help="or trace:FILE, the reference lane of a trace made elsewhere (default: %(default)s)",
    )
    add_trust_flag(group)
    add_memory_flag(group)
    group.add_argument("--candidate", metavar="PLACE", help="(default: the first GPU, or a simulated place)")
    group.add_argument(
        "--tf32", choices=("on", "off"), help="TensorFloat-32 on NVIDIA GPUs (default: TensorFlow's own, on)"
    )
    group.add_argument(
        "--deterministic", action="store_true", help="TensorFlow's op determinism, in both places (slower)"
    )
    group.add_argument("--execution", choices=EXECUTIONS, help="of both places; under xla the reference runs as graph")


def add_second_model_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--candidate-model",
        metavar="SPEC",
        type=nameable,
        help=f"with --mode {PREDICT}: a second model of the same architecture, named as --model is; is it the same? "
        "The candidate has its weights and, unless --candidate names another, the reference's place",
    )


def second_model(options: argparse.Namespace) -> str | None:
    """What the candidate's own model is called; raises UserError where two models cannot be compared so."""
    spec: str | None = options.candidate_model
    wanted = {"--mode predict": options.mode == PREDICT, "--model": options.model is not None}
    if spec is not None and (missing := [flag for flag, given in wanted.items() if not given]):
        raise UserError(
            f"--candidate-model {spec} without {missing[0]}: it compares what two models predict, and the first is "
            f"--model's; give {missing[0]}"
        )
    if spec is not None and options.units == "step":
        raise UserError(
            f"--candidate-model {spec} with --units step: the weights of each layer are judged by that layer; leave "
            "--units out"
        )
    return spec


def add_watch_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("how it is watched")
    group.add_argument(
        "--follow",
        choices=FOLLOW,
        help="whose state starts a step: the reference's (default), the candidate's, or each lane its own (free)",
    )
    group.add_argument(
        "--twins",
        type=whole(0, MOST_TWINS),
        metavar="N",
        help=f"the reference N times more, each with its weights moved by one rounding: how fast chaos grows; follows "
        f"free, one more step a step each ({FEWEST_TWINS} or more are worth it; default: {FEWEST_TWINS} where "
        "--follow is free, else none)",
    )
    group.add_argument("--units", choices=UNITS, default="layer", help="what is compared (default: %(default)s)")
    group.add_argument(
        "--check-every",
        type=positive,
        metavar="N",
        help="check layer units every N-th step (default: 1 up to 100 steps, else 50)",
    )
    group.add_argument(
        "--attribute",
        action=argparse.BooleanOptionalAction,
        help="after a divergence, run its step under every switch and say which one cures it (default: for at most "
        "a minute, unless --quiet or --json is given)",
    )
    group.add_argument(
        "--substitute",
        metavar="NAME=reference",
        help="then train once more with a layer, or an op as op:I, computed by the reference: is the loss restored? "
        "several with commas between",
    )


def add_trace_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what the trace keeps", "statistics and checksums are kept of everything")
    group.add_argument(
        "--dump",
        metavar="WHAT",
        default="auto",
        help="tensors kept in full: all, flagged (of flagged steps), none, or globs of layers such as 'conv2d*,dense'; "
        "auto keeps all if that is at most 1 GiB, else those of the first and of flagged steps (default: %(default)s)",
    )
    group.add_argument("--dump-steps", metavar="STEPS", help="only of these steps: 0,5,10-20,100-900:50")
    group.add_argument(
        "--snapshot-every",
        type=positive,
        metavar="K",
        help="keep the state before every K-th step (default: as often as fits in 256 MiB)",
    )
    group.add_argument("--portable", action="store_true", help="plain datasets that any HDF5 reader opens; larger")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is printed and written")
    group.add_argument(
        "--out", metavar="FOLDER", type=file_path, help="new folder for trace.h5 and report.json (default: runs/<time>)"
    )
    group.add_argument(
        "--tensorboard",
        metavar="DIR",
        type=file_path,
        help="new folder for TensorBoard, which shows both places while the run goes on (needs tensorboardX)",
    )
    group.add_argument("--json", action="store_true", help="print report.json and nothing else")
    add_verbose_flag(group)
    group.add_argument("--quiet", action="store_true", help="no progress")


def add_resume_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume",
        metavar="FOLDER",
        type=file_path,
        help="go on with the run in this folder that was killed; of its flags only those that name Python files are "
        "needed again, --steps may ask for more",
    )


def follow_and_twins(options: argparse.Namespace) -> tuple[str, int]:
    """Whose state starts a step, and how many twins there are, where each may settle the other.

    Raises UserError for twins with nothing to be held against: a candidate that starts every step from another
    lane's state has no path of its own.
    """
    recorded = options.reference.startswith(TRACE)
    twins = options.twins or 0
    if twins and recorded:
        raise UserError(
            f"--twins {twins} with --reference {options.reference}: a twin is the reference run again, and a recorded "
            "one cannot be; leave --twins out"
        )
    if twins and options.follow not in (None, "free"):
        raise UserError(
            f"--twins {twins} with --follow {options.follow}: twins are held against the candidate's own path, and "
            "there is none where the lanes start each step from one state; leave --follow out or take --follow free"
        )
    follow = options.follow or ("free" if twins else "reference")
    if options.twins is None and follow == "free" and not recorded:
        twins = FEWEST_TWINS
    return follow, twins


def refuse_paths(follow: str | None, twins: int | None, substitute: str | None, asked: str) -> None:
    """Raises UserError for what follows lanes from state to state; asked: what asks to predict, which changes none."""
    given = {"--twins": twins, "--follow": None if follow == "reference" else follow, "--substitute": substitute}
    for flag, value in given.items():
        if value:
            raise UserError(
                f"{flag} {value} with {asked}: prediction changes no weights, so that no place has a path of its own "
                f"to follow; leave {flag} out"
            )


def _with_trace(options: argparse.Namespace) -> Places:
    """A recorded reference: model, data, policy and seed are the trace's."""
    given = [
        name for name in ("model", "data", "policy", "mode", "candidate_model") if getattr(options, name) is not None
    ]
    if given:
        flag = f"--{given[0].replace('_', '-')}"
        raise UserError(
            f"--reference {options.reference} with {flag}: the training step and its batches come from the trace; "
            f"leave {flag} out"
        )
    candidate = None if options.candidate is None else parse_place(options.candidate, options.execution, None)
    return Places(parse_place("CPU:0", "graph", None), candidate, Path(options.reference.removeprefix(TRACE)))


def substituted(text: str | None) -> str | None:
    """The unit's name out of `NAME=reference`; raises UserError for anything else."""
    if text is None:
        return None
    name, _, by = text.rpartition("=")
    if not name or by != "reference":
        raise UserError(f"--substitute {text}: expected LAYER=reference, VARIABLE=reference or {OP}INDEX=reference")
    if any(part.startswith(OP) and not part.removeprefix(OP).isdecimal() for part in name.split(",")):
        raise UserError(f"--substitute {text}: expected an op's index as in report.json, such as {OP}12=reference")
    return name


@dataclass(frozen=True)
class Places:
    reference: Place
    candidate: Place | None  # None: chosen once the devices are known
    trace: Path | None = None  # a recorded reference; `reference` is then its stand-in here


def places_of(options: argparse.Namespace) -> Places:
    """The places of a command line; raises UserError where one does not parse."""
    execution = options.execution
    if options.reference.startswith(TRACE):
        return _with_trace(options)
    reference = parse_place(options.reference, "graph" if execution == "xla" else execution, options.policy)
    candidate = None if options.candidate is None else parse_place(options.candidate, execution, options.policy)
    if candidate is None and options.candidate_model is not None:
        candidate = reference  # the question is of models
    if candidate is not None and (candidate.policy or "float32") != (reference.policy or "float32"):
        raise UserError(
            f"--reference {reference} and --candidate {candidate} train in different policies; lockstep compares "
            "places in one policy: give it with --policy"
        )
    return Places(reference, candidate)
