"""Run the same batches on two places in lockstep and report where they diverge.

With no arguments: a small convolutional network on generated images, 20 steps, CPU against the
first GPU, or against a simulated one where there is none.  Prints a report and writes
runs/<time>/trace.h5 and report.json.  Exit code 0: no divergence, 1: divergence, 2: the question
could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diag import allowance_file
from diag import options as flags
from diag.common.command import OneLineParser
from diag.common.files import write_json
from diag.common.jsonable import to_text
from diag.engine.recordings.dump_policy import parse_dump_policy
from diag.errors import UserError
from diag.machine.settings import use_determinism, use_tf32

if TYPE_CHECKING:
    from diag.engine.recordings.recorded_lane import RecordedLane
    from diag.engine.recordings.recording import Recording
    from diag.engine.runs.run import Settings
    from diag.engine.training.setup import Trained
    from diag.machine.places import Place
    from diag.verdict.result import RunResult
    from diag.verdict.substitution import Substitution

DIVERGENCE, BUG = 1, 3
MORE_TWINS = 9  # of ten curves of one kind each is the largest in one of ten runs
SIMULATED_BY_DEFAULT = "sim:metal-fused-dense"
SMALLEST_FREE = 64 << 20  # bytes: room for a report and a small trace


def parser() -> argparse.ArgumentParser:
    made = OneLineParser(
        prog="python -m diag.lockstep", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    flags.add_model_flags(made)
    flags.add_place_flags(made)
    flags.add_watch_flags(made)
    allowance_file.add_allowances_flag(made)
    flags.add_trace_flags(made)
    flags.add_output_flags(made)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(given)
    try:
        return run(options, given)
    except UserError as error:
        print(f"lockstep: {' '.join(str(error).split())}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("lockstep: interrupted; what was whole is in the trace", file=sys.stderr)
        return UserError.exit_code
    except Exception:
        traceback.print_exc()
        return BUG


def run(options: argparse.Namespace, given: Sequence[str]) -> int:
    places = flags.places_of(options)
    parse_dump_policy(options.dump, options.dump_steps)
    if places.trace is not None:
        check_flags_with_trace(options, given)
    options.follow, options.twins = flags.follow_and_twins(options)
    options.substitute = flags.substituted(options.substitute)
    allowances = allowance_file.read(options.allowances)
    folder = output_folder(options.out)
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from rich.console import Console

    from diag.report import json_report, substitution, terminal

    if options.tf32 is not None:
        use_tf32(options.tf32 == "on")
    if options.deterministic:
        use_determinism()
    candidate, notes = choose_candidate(places.candidate, options)
    notes += allowance_file.put_in_force(options.allowances, allowances)
    result = execute(options, given, places, candidate, folder, notes)
    contents = json_report.report(result)
    write_json(folder / "report.json", contents)
    if options.json:
        print(to_text(contents), end="")
    else:
        terminal.render(result, Console(), next_commands(result, given))
        if result.substitution is not None:
            substitution.render(result.substitution, Console())
    return DIVERGENCE if result.verdict == "divergence" else 0


def check_flags_with_trace(options: argparse.Namespace, given: Sequence[str]) -> None:
    """Refuse what a recorded reference settles itself, or cannot do."""
    for flag in ("--batch-size", "--seed"):
        if any(word == flag or word.startswith(f"{flag}=") for word in given):
            raise UserError(
                f"--reference {options.reference} with {flag}: batches and seed come from the trace; leave {flag} out"
            )
    if options.follow == "candidate":
        raise UserError(
            f"--reference {options.reference} with --follow candidate: a recorded lane cannot start from another's "
            "state; take --follow reference, or free"
        )


def output_folder(wanted: Path | None) -> Path:
    """A folder that can be written and holds no earlier run; made once the question is known to be good."""
    folder = wanted or Path("runs") / time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while wanted is None and folder.exists():
        number += 1
        folder = folder.with_name(f"{time.strftime('%Y%m%d-%H%M%S')}-{number}")
    kept = [name for name in ("trace.h5", "report.json") if (folder / name).exists()]
    if kept:
        raise UserError(
            f"--out {folder} already holds {kept[0]}; name a new folder, an earlier run is never overwritten"
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--out {folder}: {existing} is no folder; name one that can be made")
    import os
    import shutil

    if not os.access(existing, os.W_OK | os.X_OK):
        raise UserError(f"--out {folder}: {existing} cannot be written; name a folder that can")
    if shutil.disk_usage(existing).free < SMALLEST_FREE:
        raise UserError(f"--out {folder}: less than {SMALLEST_FREE >> 20} MiB free there; name a folder with more room")
    return folder


def choose_candidate(named: Place | None, options: argparse.Namespace) -> tuple[Place, list[str]]:
    """The named place, else the first GPU, else a simulated one, and what to say about it."""
    import tensorflow as tf

    from diag.machine.places import parse_place

    if named is not None:
        return named, []
    if tf.config.list_logical_devices("GPU"):
        return parse_place("GPU:0", options.execution, options.policy), []
    place = parse_place(SIMULATED_BY_DEFAULT, options.execution, options.policy)
    return place, [
        f"SIMULATED: this machine has no GPU that TensorFlow sees, so the candidate is {place}: the CPU with a known "
        "fault of a real stack planted in it. What follows shows what the tool does, not what your hardware does."
    ]


def execute(
    options: argparse.Namespace,
    given: Sequence[str],
    places: flags.Places,
    candidate: Place,
    folder: Path,
    notes: list[str],
) -> RunResult:
    from diag.engine.lanes.lane import check_device

    for place in (places.reference, candidate):
        check_device(place)
    if places.trace is not None:
        return _against_trace(options, given, places, candidate, folder, notes)
    from diag.engine.runs.run import Settings
    from diag.engine.runs.updates import adam_settings_of
    from diag.engine.training.setup import set_up

    steps = options.steps or flags.DEFAULT_STEPS
    trained = set_up(options.model, options.data, options.batch_size, steps, options.seed, options.policy)
    settings = Settings(
        places.reference, candidate, steps, options.seed, options.follow, options.units, options.check_every,
        twins=options.twins, adam=adam_settings_of(trained.model),
    )  # fmt: skip
    return record(options, given, trained, settings, folder, notes)


def _against_trace(
    options: argparse.Namespace,
    given: Sequence[str],
    places: flags.Places,
    candidate: Place,
    folder: Path,
    notes: list[str],
) -> RunResult:
    """The candidate here against the reference lane of a trace made elsewhere."""
    from diag.engine.recordings.recorded_lane import RecordedLane
    from diag.engine.recordings.recorded_run import RecordedRun
    from diag.engine.runs.run import Settings

    assert places.trace is not None
    with RecordedRun(places.trace) as recorded:
        candidate = _in_recorded_policy(candidate, recorded.place("reference"))
        first = recorded.first_step
        have = recorded.num_steps_from(first)
        if (options.steps or 0) > have:
            raise UserError(f"--steps {options.steps}: {places.trace} holds {have} steps with their batches")
        trained = recorded.training(first, "reference")
        settings = Settings(
            places.reference, candidate, options.steps or have, recorded.seed, options.follow, options.units,
            options.check_every, first,
        )  # fmt: skip
        lane = RecordedLane("reference", recorded, "reference", places.reference, first)
        result = record(options, given, trained, settings, folder, notes, lane)
    return result


def _in_recorded_policy(candidate: Place, recorded: Place) -> Place:
    """The candidate computes in the policy that the step was traced in."""
    policy = recorded.policy or "float32"
    if candidate.policy not in (None, policy):
        raise UserError(
            f"--candidate {candidate}: the recorded step computes in {policy}, and nothing changes that; leave the "
            "policy out"
        )
    return replace(candidate, policy=recorded.policy)


def record(
    options: argparse.Namespace,
    given: Sequence[str],
    trained: Trained,
    settings: Settings,
    folder: Path,
    notes: list[str],
    reference: RecordedLane | None = None,
) -> RunResult:
    """Run, and write the trace as it goes on."""
    from diag.engine.attribution.substitution import unit_named
    from diag.engine.recordings.recording import Recording, RecordingOptions
    from diag.engine.runs.run import LockstepRun
    from diag.report import json_report
    from diag.report.progress import StepProgress

    quiet = options.quiet or options.json
    kept = RecordingOptions(
        parse_dump_policy(options.dump, options.dump_steps), options.snapshot_every, options.portable
    )
    opened: list[Recording] = []
    made = [path for path in (folder, *folder.absolute().parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    try:
        with StepProgress(settings.steps, quiet=quiet) as progress:
            run = LockstepRun(trained.programs, trained.batches, settings, progress.update, reference)
            command = ["python", "-m", "diag.lockstep", *given]
            recording = Recording(folder / "trace.h5", run.plan, command, trained, kept)
            opened.append(recording)
            if options.substitute is not None:
                unit_named(options.substitute, run.program)  # refused before the run rather than after it
            if not quiet and recording.is_worth_a_word:
                print(recording.forecast, file=sys.stderr)
            for step in run.steps():
                recording.step(step)
            result = run.result()
        files = {"trace": str(folder / "trace.h5"), "html": None, "report": str(folder / "report.json")}
        recorded = reference.notes if reference is not None else []
        result = replace(
            result, notes=(*notes, *trained.notes, *result.notes, *recorded, *opened[0].notes),
            model=trained.model_description, data=trained.data_description,
            files={k: v for k, v in files.items() if v},
        )  # fmt: skip
        result = _attributed(result, options, opened[0], trained, time.monotonic() - begun)
        if options.substitute is not None:
            result = replace(result, substitution=_substituted(options, trained, settings))
        opened[0].finish(json_report.report(result))
        return result
    except BaseException as error:
        if opened:
            opened[0].close()
        if isinstance(error, UserError) and not (opened and opened[0].num_steps):
            (folder / "trace.h5").unlink(missing_ok=True)  # nothing whole is in it
        for path in made:
            if not any(path.iterdir()):
                path.rmdir()
        raise


def _attributed(
    result: RunResult, options: argparse.Namespace, recording: Recording, trained: Trained, seconds: float
) -> RunResult:
    """The first divergence with what cures it, from trials on the trace as it is so far."""
    quiet = options.quiet or options.json
    wanted = False if options.attribute is None and quiet else options.attribute
    if result.first_divergence is None or wanted is False:
        return result
    from diag.engine.attribution.attributing import FlaggedStep, lanes_of, wrong_alike
    from diag.engine.attribution.of_run import attributed
    from diag.report import json_report

    plan, step = recording.plan, result.first_divergence.where.step
    here = [divergence for divergence in result.divergences if divergence.where.step == step]
    flagged = FlaggedStep(
        recording.writer.path, step, plan.settings.candidate, lanes_of(plan.settings.follow),
        plan.environments["candidate"], plan.program, trained.config, *wrong_alike([d.to_dict() for d in here]),
    )  # fmt: skip
    recording.keep(json_report.report(result))  # should the trials be ended, the trace has what was found
    say = (lambda text: None) if quiet else (lambda text: print(text, file=sys.stderr))
    return attributed(result, flagged, wanted, seconds / result.steps, say)


def _substituted(options: argparse.Namespace, trained: Trained, settings: Settings) -> Substitution:
    """The same training once more, each lane on its own path, with a unit computed by the reference."""
    from diag.engine.attribution.substitution import substitute

    places = (settings.reference, settings.candidate)
    return substitute(options.substitute, trained.programs, trained.batches, places, settings.numbers, settings.seed)


def next_commands(result: Any, given: Sequence[str]) -> list[str]:
    """What to try next, from what was found."""
    import shlex

    place = given.index("--out") if "--out" in given else len(given)
    command = shlex.join(["python", "-m", "diag.lockstep", *given[:place], *given[place + 2 :]])
    first = result.first_divergence
    if first is None:
        further = [f"{command} --follow free"]
        if result.twins is not None:
            further = [f"{command} --twins {MORE_TWINS}"] if result.twins.is_inconclusive else []
        return [*further, f"{command} --units op"]
    commands = []
    if result.attribution is None and "trace" in result.files:
        commands.append(f"python -m diag.attribute {shlex.quote(result.files['trace'])}")
    elif first.where.unit in ("layer", "op") and first.where.layer and "--substitute" not in given:
        commands.append(f"{command} --substitute {shlex.quote(first.where.variable or first.where.layer)}=reference")
    if first.where.unit != "op" and "--units" not in given:
        commands.append(f"{command} --units op")
    if "--execution" not in given and first.blame in ("graph-rewriter", "xla"):
        commands.append(f"{command} --execution eager")
    return [*commands, f"{command} --follow candidate"] if "--follow" not in given else commands


if __name__ == "__main__":
    sys.exit(main())
