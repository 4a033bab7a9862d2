"""A recorded step again: the bits, what is said of those that differ, and what is refused."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.recordings.recorded_run import RecordedRun, summary
from diag.engine.recordings.replaying import Replayer
from diag.engine.recordings.replaying_units import replay_layer, replay_op
from diag.errors import UserError
from diag.machine.places import Place, parse_place
from diag.numerics.statistics import compare
from diag.verdict.findings import Verdict
from diag.verdict.replay import Replay, ReplayOutcome
from tests import traced
from traces.reader import TraceReader

CPU = parse_place("CPU:0")
FEW = (*traced.FEW_STATES, *traced.QUICK)
MODELS = "tests/engine/recordings/replayed_models.py"


def replayed(path: Path, step: int, lane: str = "candidate", **how: object) -> Replay:
    with RecordedRun(path) as run:
        replayer = Replayer(run, **how)  # type: ignore[arg-type]
        replayer.check(step)
        return replayer.replay(step, lane)


def others(replay: Replay) -> set[str]:
    return {f"{tensor.kind}/{tensor.name}" for tensor in replay.others}


def assert_exact(replay: Replay) -> None:
    assert replay.is_exact and others(replay) == set() and replay.loss[0] == replay.loss[1]


# ---- every step comes back


@pytest.mark.parametrize("lane", ["reference", "candidate"])
def test_every_step_of_both_lanes_has_the_recorded_bits(lane: str) -> None:
    path = traced.trace(*traced.MLP, "--candidate", "CPU:0/eager", *traced.FREE, *traced.FEW_STATES)
    with TraceReader(path) as reader:
        assert reader.snapshots == [0]  # so the others have to be reached
        names = {(spec.kind, spec.name) for spec in reader.layout.tensors}
    for step in range(3):
        replay = replayed(path, step, lane)
        assert_exact(replay)
        assert {(tensor.kind, tensor.name) for tensor in replay.tensors} == names
        assert replay.state_reproduced is (None if replay.start == step else True)


@pytest.fixture(scope="module")
def tf32() -> Path:
    return traced.tf32()


@pytest.mark.parametrize("follow", ["reference", "candidate"])
def test_the_lane_that_is_followed_leads_to_the_step(follow: str) -> None:
    path = traced.trace(*traced.MLP, "--candidate", "CPU:0/eager", "--follow", follow, *FEW)
    for lane in ("reference", "candidate"):
        replay = replayed(path, 2, lane)
        assert_exact(replay)
        assert replay.start == 0 and replay.state_reproduced


def test_the_part_of_a_batch_that_is_left_over_has_a_program_of_its_own() -> None:
    path = traced.trace("--model", f"{MODELS}:wide", "--data", f"{MODELS}:ten", *LEFT_OVER, "--candidate", "CPU:0")
    with TraceReader(path) as reader:
        assert len(reader.programs) == 2
    assert_exact(replayed(path, 2))
    assert_exact(replayed(path, 3))


LEFT_OVER = ("--batch-size", "4", "--steps", "4", *FEW)  # of ten samples: 4, 4, 2, 4


# ---- what does not


def test_at_another_place_the_difference_is_that_place_s(tf32: Path) -> None:
    """The reference's first step at the candidate's place gives what the candidate had: both began in one state."""
    replay = replayed(tf32, 0, "reference", place=parse_place("sim:tf32"))
    found = {(tensor.kind, tensor.name): tensor for tensor in replay.others}
    with TraceReader(tf32) as reader:
        for spec in reader.layout.tensors:
            name = (spec.kind, spec.name)
            a, b = (reader.checksum(0, lane, *name) for lane in reader.layout.lanes)
            assert (name in found) == (a != b), name
            if name in found and ("reference", *name) in reader.kept_in(0):
                expected = compare(*(reader.tensor(0, lane, *name) for lane in reader.layout.lanes))
                told = found[name].statistics
                assert told is not None and (told.num_unequal, told.max) == (expected.num_unequal, expected.max)
    assert found and all(tensor.outcome is ReplayOutcome.OTHER and tensor.own is None for tensor in found.values())


def test_a_place_that_is_not_deterministic_is_called_so() -> None:
    path = traced.trace("--model", f"{MODELS}:wide", "--data", f"{MODELS}:ten", "--batch-size", "10", "--steps", "1",
                        "--candidate", f"sim:{MODELS}:never_the_same")  # fmt: skip
    assert_exact(replayed(path, 0, "reference"))
    replay = replayed(path, 0, place=parse_place(f"sim:{MODELS}:never_the_same"))
    assert "gradients/a/bias" in others(replay) and "activations/a" not in others(replay)
    unstable = [tensor for tensor in replay.others if tensor.outcome is ReplayOutcome.UNSTABLE]
    assert unstable and all(tensor.own is not None and tensor.own.num_unequal for tensor in unstable)
    assert not any("--from" in note for note in replay.notes)


def test_a_place_with_a_memory_goes_through_the_steps_again_where_asked() -> None:
    """Rows of the last, smaller batch: only who ran the larger one before has anything left over."""
    path = traced.trace("--model", f"{MODELS}:wide", "--data", f"{MODELS}:ten", *LEFT_OVER,
                        "--candidate", "sim:stale-partial-batch")  # fmt: skip
    alone = replayed(path, 2)
    assert alone.start == 2 and "gradients/b/bias" in others(alone)
    assert any("--from 0" in note for note in alone.notes)
    assert_exact(replayed(path, 2, start=0))
    assert_exact(replayed(path, 2, "reference"))


@pytest.fixture(scope="module")
def noisy() -> Path:
    """Draws of a generator whose state no variable holds."""
    return traced.trace("--model", f"{MODELS}:noisy", *traced.MLP[2:], "--candidate", "CPU:0", *FEW)


def test_draws_that_no_state_gives_again_are_taken_from_the_trace(noisy: Path) -> None:
    for step, lane in ((2, "reference"), (1, "candidate")):
        replay = replayed(noisy, step, lane)
        assert_exact(replay)
        assert all(tensor.kind == "draws" for tensor in replay.tensors if tensor.outcome is not ReplayOutcome.SAME)


def test_draws_inside_a_loop_are_said_to_be_lost() -> None:
    path = traced.trace("--model", f"{MODELS}:noisy_loop", *traced.MLP[2:], "--candidate", "CPU:0", *FEW)
    replay = replayed(path, 2)
    assert "gradients/last/kernel" in others(replay) and "activations/first" not in others(replay)
    assert any("RandomUniform of noise draws inside a loop" in note for note in replay.notes)


def test_another_seed_gives_other_masks_and_the_same_before_them() -> None:
    path = traced.trace("--model", f"{MODELS}:wide", "--data", f"{MODELS}:ten", *LEFT_OVER, "--candidate", "CPU:0")
    recorded, seven, again, eight = (replayed(path, 0, seed=seed) for seed in (None, 7, 7, 8))
    assert_exact(recorded)
    for replay in (seven, again, eight):
        assert "activations/drop" in others(replay) and "activations/a" not in others(replay)
        assert any("--seed" in note for note in replay.notes)
    assert seven.loss == again.loss != eight.loss


# ---- one op, one layer


def test_an_op_is_judged_on_its_own(tf32: Path) -> None:
    with RecordedRun(tf32) as run:
        program = run.program(1)
        products = [
            node.location.index for node in program.ops if node.op == "MatMul" and node.location.phase == "forward"
        ]
        found = [replay_op(run, 1, index, "candidate", parse_place("sim:tf32"), Replayer(run)) for index in products]
        right = replay_op(run, 1, products[0], "candidate", CPU, Replayer(run, place=CPU))
    assert all(o.verdict is Verdict.DIVERGENCE for replay in found for o in replay.observations)
    assert [o.verdict for o in right.observations] == [Verdict.IDENTICAL]
    x, kernel = map(to_numpy, found[0].evidence[0].inputs)
    with TraceReader(tf32) as reader:  # the inputs are the step's: its batch, and the weights before it
        assert x.tobytes() == reader.batch(1)["batch_0"].tobytes()
        assert kernel.tobytes() == reader.snapshot(1, "candidate")["dense/kernel"].tobytes()


def test_a_layer_is_judged_with_all_it_computes(tf32: Path) -> None:
    with RecordedRun(tf32) as run:
        wrong = replay_layer(run, 1, "dense_1", "candidate", parse_place("sim:tf32"), Replayer(run))
        right = replay_layer(run, 1, "dense_1", "candidate", CPU, Replayer(run, place=CPU))
        update = replay_layer(run, 1, "dense_1/bias", "candidate", CPU, Replayer(run, place=CPU))
    named = {o.where.name: o.verdict for o in wrong.observations if o.where.variable is None}
    assert named["output"] is Verdict.DIVERGENCE
    assert named["gradient of dense_1/bias"] is not Verdict.DIVERGENCE  # a sum; no product
    assert {o.verdict for o in right.observations} == {Verdict.IDENTICAL}
    assert [o.where.name for o in update.observations] == ["value", "momentum", "velocity"]


def test_a_layer_is_given_the_draws_that_were_recorded(noisy: Path) -> None:
    with RecordedRun(noisy) as run, TraceReader(noisy) as reader:
        replay = replay_layer(run, 2, "last", "candidate", CPU, Replayer(run))
        inputs = [to_numpy(x) for unit_run in replay.unit_runs for x in unit_run.boundary]
        assert reader.tensor(2, "candidate", "activations", "noise").tobytes() in [x.tobytes() for x in inputs]


# ---- damage is noticed


@pytest.fixture(scope="module")
def plain() -> Path:
    return traced.cpu()


def byte_of(path: Path, dataset: str, row: int = 0) -> int:
    """Where in the file some byte of a row lies."""
    with h5py.File(path) as file:
        chunk, found = file[dataset].chunks, file[dataset].id
        at = found.get_chunk_info_by_coord((row // chunk[0] * chunk[0], *[0] * (len(chunk) - 1))).byte_offset
        return int(at) + (row % chunk[0]) * file[dataset][0].nbytes + 5


@pytest.mark.parametrize(
    ("dataset", "row", "lane", "words"),
    [
        ("batches/tensors/batch_0/values", 1, "candidate", "the batch of step 1 in it"),
        ("snapshots/tensors/dense/kernel/candidate", 0, "candidate", "the state of the candidate before step 0 in it"),
        (
            "snapshots/tensors/optimizer/dense/bias/velocity/reference",
            0,
            "reference",
            "the state of the reference before step 0 in it",
        ),
    ],
)
def test_a_changed_byte_of_what_a_step_begins_with_is_noticed(
    plain: Path, tmp_path: Path, dataset: str, row: int, lane: str, words: str
) -> None:
    copy = traced.damaged(plain, tmp_path, byte_of(plain, dataset, row))
    with pytest.raises(UserError, match=f"{words} is damaged; expected the bytes that were written"):
        replayed(copy, 1, lane, start=0)


def test_a_changed_byte_of_the_training_step_is_noticed(plain: Path, tmp_path: Path) -> None:
    copy = traced.damaged(plain, tmp_path, byte_of(plain, "programs/bytes") + 300)
    with pytest.raises(UserError, match="training step in it is damaged"):
        RecordedRun(copy)


# ---- what cannot be asked


@pytest.mark.parametrize(
    ("step", "how", "words"),
    [
        (3, {}, ["--step 3", "holds the steps 0-2"]),
        (1, {"start": 7}, ["--from 7", "holds the states before steps"]),
        (1, {"seed": 2**32}, ["--seed 4294967296", "0 to 4294967295"]),
        (1, {"seed": 1}, ["--seed 1", "no random stream"]),
        (1, {"place": Place("GPU:7")}, ["GPU:7", "this machine has no GPU:7", "CPU:0"]),
        (1, {"place": parse_place("CPU:0/graph/mixed_float16")}, ["float32", "leave the policy out"]),
    ],
)
def test_what_cannot_be_asked_is_said(plain: Path, step: int, how: dict[str, object], words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        replayed(plain, step, **how)
    assert all(word in str(refused.value) for word in words), refused.value


def test_a_start_after_the_step_is_refused(tf32: Path) -> None:
    with TraceReader(tf32) as reader:
        last = reader.snapshots[-1]
    with pytest.raises(UserError, match=f"--from {last} is after --step {last - 1}"):
        replayed(tf32, last - 1, start=last)


@pytest.mark.parametrize(
    ("numbers", "text"), [([], "no step"), ([3], "3"), ([1, 2], "1-2"), ([5, 0, 1, 2, 7, 9, 8], "0-2, 5, 7-9")]
)
def test_steps_as_a_person_writes_them(numbers: list[int], text: str) -> None:
    assert summary(numbers) == text
