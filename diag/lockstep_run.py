"""A lockstep run from its request to its result, with the trace and the report that it leaves in a folder.

Importing this loads TensorFlow: call `diag.machine.tensorflow_import.import_tensorflow` before.
"""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import datetime, timezone

import tensorflow as tf

from diag import allowance_file
from diag.common.files import claimed, write_json, write_report
from diag.common.modes import FIGURE, PREDICT, TRAIN
from diag.engine.attribution.attributing import FlaggedStep, lanes_of, wrong_alike
from diag.engine.attribution.of_run import attributed, expected_seconds
from diag.engine.attribution.substitution import substitute, unit_named
from diag.engine.lanes.lane import check_device
from diag.engine.recordings.checkpoint import CheckpointHeader, Checkpoints, read_header, read_state
from diag.engine.recordings.earlier_run import EarlierRun
from diag.engine.recordings.recorded_lane import RecordedLane
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.recording import LANES, Recording, RecordingOptions
from diag.engine.runs.carrying import RUN_DATA, carried, draws_from_lost_state, take_up
from diag.engine.runs.run import LockstepRun
from diag.engine.runs.settings import Settings
from diag.engine.runs.updates import adam_settings_of
from diag.engine.training.setup import Named, Traced, Trained, set_up
from diag.errors import UserError
from diag.machine import settings as process
from diag.machine.places import Place, parse_place
from diag.options import DEFAULT_STEPS, refuse_paths
from diag.report import json_report
from diag.report.html import page_of
from diag.report.progress import StepProgress
from diag.report.stored import report_with_record
from diag.report.tensorboard import EventFiles
from diag.request import LockstepRequest, refuse_earlier_run
from diag.verdict.findings import NOBODY
from diag.verdict.result import SIMULATED, Notice, RunResult, as_notes
from diag.verdict.substitution import Substitution
from traces.reader import TraceReader

SIMULATED_BY_DEFAULT = "sim:metal-fused-dense"
LOST_STATE = (
    "the run was killed and went on; its step draws random numbers by stateful ops, whose state a kill loses: it drew "
    "others from there on than it would have without the kill"
)
FILES = {"trace": "trace.h5", "report": "report.json", "html": "report.html"}
Notices = tuple[Notice, ...]


def run_lockstep(request: LockstepRequest, trained: Trained | None = None) -> RunResult:
    """Run, record and report; this process's settings are put back afterwards.

    trained: what is trained, where it is there already; else what the request names.

    Raises:
        UserError: the request cannot be met; nothing is left in its folder unless whole steps are.
    """
    with claimed(request.folder), process.tf32(request.tf32), process.op_determinism(request.deterministic):
        if not request.is_resumed:
            refuse_earlier_run(request.folder)  # one may have begun and ended since the flags were read
        candidate, notices = choose_candidate(request)
        notices += as_notes(allowance_file.put_in_force(request.allowances_file, request.allowances))
        for place in (request.reference, candidate):
            check_device(place)
        if request.trace is not None:
            result = _against_trace(request, candidate, notices)
        else:
            result = _live(request, trained, candidate, notices)
        write_json(request.folder / "report.json", json_report.report(result))
        with TraceReader(request.folder / "trace.h5") as trace:
            write_report(request.folder / "report.html", page_of(result, trace))
        Checkpoints(request.folder).discard()
        return result


def choose_candidate(request: LockstepRequest) -> tuple[Place, Notices]:
    """The named place, else the first GPU, else a simulated one, and what to say about it."""
    if request.candidate is not None:
        return request.candidate, ()
    return default_candidate(request.execution, request.policy)


def default_candidate(execution: str | None = None, policy: str | None = None) -> tuple[Place, Notices]:
    """The first GPU, else a simulated place, and what to say about it."""
    if tf.config.list_logical_devices("GPU"):
        return parse_place("GPU:0", execution, policy), ()
    place = parse_place(SIMULATED_BY_DEFAULT, execution, policy)
    text = (
        f"SIMULATED: this machine has no GPU that TensorFlow sees, so the candidate is {place}: the CPU with a known "
        "fault of a real stack planted in it. What follows shows what the tool does, not what your hardware does; "
        "`python -m diag.doctor` says which devices there are."
    )
    return place, (Notice(SIMULATED, text),)


def _live(request: LockstepRequest, trained: Trained | None, candidate: Place, notices: Notices) -> RunResult:
    """Train or predict with both lanes on this machine."""
    steps = request.steps or DEFAULT_STEPS
    planned, checks = _as_begun(request, steps)
    if trained is None:
        named = Named(request.model, request.data, request.is_trusted, request.candidate_model)
        traced = Traced(request.policy, "xla" in (request.reference.execution, candidate.execution), request.mode)
        trained = set_up(named, request.batch_size, planned, request.seed, traced)
    settings = Settings(
        request.reference,
        candidate,
        steps,
        request.seed,
        request.follow if request.candidate_model is None else "free",
        request.units,
        checks,
        twins=request.twins,
        adam=adam_settings_of(trained.model) if request.mode == TRAIN else None,
        mode=request.mode,
    )
    return record(request, trained, settings, notices)


def _against_trace(request: LockstepRequest, candidate: Place, notices: Notices) -> RunResult:
    """The candidate here against the reference lane of a trace made elsewhere."""
    assert request.trace is not None
    with RecordedRun(request.trace, request.is_trusted) as recorded:
        candidate = _in_recorded_policy(candidate, recorded.place("reference"))
        first = recorded.first_step
        num_recorded = recorded.num_steps_from(first)
        if (request.steps or 0) > num_recorded:
            raise UserError(f"--steps {request.steps}: {request.trace} holds {num_recorded} steps with their batches")
        trained = recorded.training(first, "reference")
        if recorded.mode == PREDICT:
            refuse_paths(request.follow, request.twins, request.substitute, f"--reference trace:{request.trace}")
        settings = Settings(
            request.reference,
            candidate,
            request.steps or num_recorded,
            recorded.seed,
            request.follow,
            request.units,
            _as_begun(request, request.steps or num_recorded)[1],
            first,
            mode=recorded.mode,
        )
        lane = RecordedLane("reference", recorded, "reference", request.reference, first)
        return record(request, trained, settings, notices, lane)


def _as_begun(request: LockstepRequest, steps: int) -> tuple[int, int | None]:
    """For how many steps the data are made, and every how many units are checked: as the run began if it goes on."""
    header = read_header(request.folder) if request.is_resumed else None
    if header is None or header.steps == steps:
        return steps if header is None else header.planned, request.check_every
    return header.planned, header.checks


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
    request: LockstepRequest,
    trained: Trained,
    settings: Settings,
    notices: Notices,
    reference: RecordedLane | None = None,
) -> RunResult:
    """Run, and write the trace as it goes on."""
    folder = request.folder
    opened: list[Recording] = []
    begun, created = time.monotonic(), datetime.now(timezone.utc)
    try:
        with StepProgress(settings.steps, quiet=request.quiet, figure=FIGURE[settings.mode]) as progress:
            run = LockstepRun(trained.programs, trained.batches, settings, progress.update, reference, trained.second)
            if request.substitute is not None:
                unit_named(request.substitute, run.program)  # refused before the run rather than after it
            recording, earlier = _opened(request, run, trained)
            opened.append(recording)
            begun -= 0.0 if earlier is None else earlier.seconds
            with events_of(request, settings.mode) as events:
                _run_all(run, recording, begun, events)
            result = run.result()
        told = [*(reference.notes if reference is not None else []), *recording.notes]
        told += [] if earlier is None else earlier.notes
        result = replace(
            result,
            notes=(*notices, *as_notes(trained.notes), *result.notes, *as_notes(told)),
            model=trained.model_description,
            data=trained.data_description,
            files={name: str(folder / file) for name, file in FILES.items()},
            command=tuple(request.command_line),
            created=created.isoformat(timespec="seconds"),
        )
        result = _attributed(result, request, recording, trained, time.monotonic() - begun)
        if request.substitute is not None:
            result = replace(result, substitution=_substituted(request.substitute, trained, settings))
        result = replace(result, seconds=round(time.monotonic() - begun, 3))
        recording.finish(report_with_record(result))
        return result
    except BaseException as error:
        if opened:
            opened[0].close()
        if isinstance(error, UserError) and not request.is_resumed and opened and not opened[0].num_steps:
            (folder / "trace.h5").unlink(missing_ok=True)  # nothing whole is in it
        raise


def _opened(request: LockstepRequest, run: LockstepRun, trained: Trained) -> tuple[Recording, EarlierRun | None]:
    """The recording of a run that begins, or of one that was killed, each with the run brought to where it goes on."""
    folder, command = request.folder, request.command_line
    kept = RecordingOptions(request.dump_policy, request.snapshot_every, request.portable)
    if not request.is_resumed:
        Checkpoints(folder).discard()
        recording = Recording(folder / "trace.h5", run.plan, command, trained, kept)
        if not request.quiet and recording.is_worth_a_word:
            print(recording.forecast, file=sys.stderr)
        return recording, None
    with EarlierRun(folder) as earlier:
        state = None if earlier.checkpoint is None else read_state(folder, RUN_DATA)
        recording = Recording(folder / "trace.h5", run.plan, command, trained, kept, earlier)
    if state is not None:
        take_up(run, state["run"])
        recording.take_up(state["recording"])
        if draws_from_lost_state(run):
            run.findings.note(LOST_STATE)
    if not request.quiet:
        print(f"{folder} goes on: {earlier.sentence}", file=sys.stderr)
    return recording, earlier


def events_of(request: LockstepRequest, mode: str) -> AbstractContextManager[EventFiles | None]:
    """Where TensorBoard reads, if that is wanted."""
    return nullcontext() if request.tensorboard is None else EventFiles(request.tensorboard, LANES, mode)


def _run_all(run: LockstepRun, recording: Recording, begun: float, events: EventFiles | None) -> None:
    """The steps that are left, each on file before the next; now and then also where the run is, to go on there.

    begun: when, by the monotonic clock, it would have begun had it not been killed.
    """
    checkpoints, settings = Checkpoints(recording.writer.path.parent), run.settings
    is_told = False
    for step in run.steps():
        record = recording.step(step)
        if events is not None:
            events.add(record)
        is_due, is_first_flagged = checkpoints.is_due, bool(step.flagged) and not is_told
        if is_due or is_first_flagged:
            is_told = is_told or is_first_flagged
            recording.keep(report_with_record(run.result(is_final=False)))  # should the run be killed
        if is_due:
            header = CheckpointHeader(
                run.next_step,
                settings.steps,
                recording.planned,
                settings.checks,
                time.monotonic() - begun,
                recording.writer.num_rows(),
            )
            state = {"run": carried(run), "recording": recording.carried()}
            checkpoints.write(header, state, RUN_DATA, recording.writer.path)
        del step, record  # whose tensors are not needed beside those of the next step


def _attributed(
    result: RunResult, request: LockstepRequest, recording: Recording, trained: Trained, seconds: float
) -> RunResult:
    """The first divergence with what cures it, from trials on the trace as it is so far; else how long these take."""
    first = result.first_divergence
    if first is None or first.blame == NOBODY:
        return result
    attribute = False if request.attribute is None and request.quiet else request.attribute
    plan, step = recording.plan, first.where.step
    in_step = [divergence for divergence in result.divergences if divergence.where.step == step]
    flagged = FlaggedStep(
        recording.writer.path,
        step,
        plan.settings.candidate,
        lanes_of(plan.settings.follow),
        plan.environments["candidate"],
        plan.program,
        trained.config,
        *wrong_alike(in_step),
        is_trusted=request.trace is None or request.is_trusted,  # of a model of the person's own
    )
    step_seconds = seconds / result.steps
    if attribute is not False:
        recording.keep(report_with_record(result))  # should the trials be ended, the trace has what was found
        say = (lambda text: None) if request.quiet else (lambda text: print(text, file=sys.stderr))
        result = attributed(result, flagged, attribute, step_seconds, say)
    if result.attribution is None:
        result = replace(result, cure_seconds=expected_seconds(flagged, first, step_seconds))
    return result


def _substituted(units: str, trained: Trained, settings: Settings) -> Substitution:
    """The same training once more, each lane on its own path, with units computed by the reference."""
    places = (settings.reference, settings.candidate)
    return substitute(units, trained.programs, trained.batches, places, settings.numbers, settings.seed)
