"""What a run's trace holds, against a training of Keras's own and against tables written by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.recordings.dump_policy import DumpPolicy, parse_dump_policy
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.recording import Recording, RecordingOptions
from diag.engine.recordings.replaying import Replayer
from diag.engine.runs.run import LockstepRun, Settings
from diag.engine.step.batch import Batch
from diag.engine.step.tracing import trace
from diag.engine.training.setup import Trained
from diag.errors import UserError
from diag.machine.places import parse_place
from diag.report import json_report
from diag.verdict.replay import ReplayOutcome
from tests import zoo
from traces.__main__ import main as inspect
from traces.reader import TraceReader

CPU = parse_place("CPU:0")
STEPS = 3
BATCHES = [zoo.batch_for(zoo.mlp, seed=seed) for seed in (1, 2, 1)]  # the last is the first again
EVERY_STATE = RecordingOptions(snapshot_every=1)
KINDS = {"activations", "gradients", "update", "momentum", "velocity"}


def record(
    path: Path,
    make: Callable[[], keras.Model] = zoo.mlp,
    batches: list[Batch] = BATCHES,
    candidate: str = "CPU:0",
    options: RecordingOptions = EVERY_STATE,
    **settings: Any,
) -> tuple[Path, Recording]:
    """A run of the model, recorded; ends as `diag.lockstep` ends it."""
    model = zoo.made(make)
    trained = Trained(model, partial(trace, model), batches, {"name": "mlp"}, "", "", ())
    asked = Settings(CPU, parse_place(candidate), len(batches), 0, **settings)
    run = LockstepRun(trained.programs, batches, asked)
    recording = Recording(path, run.plan, ["a", "command"], trained, options)
    for step in run.steps():
        recording.step(step)
    recording.finish(json_report.report(run.result()))
    return path, recording


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("trace") / "trace.h5")[0]


# ---- the values are those of Keras


def weights_of(model: keras.Model) -> dict[str, np.ndarray]:
    return {"/".join(v.path.split("/")[-2:]): v.numpy().copy() for v in model.trainable_variables}


def slots_of(model: keras.Model, slot: str) -> list[np.ndarray]:
    return [np.asarray(v.value) for v in model.optimizer.variables if v.path.endswith(slot)]


def test_states_and_updates_are_those_of_train_on_batch(recorded: Path) -> None:
    model = zoo.made(zoo.mlp)
    with TraceReader(recorded) as reader:
        for step, batch in enumerate(BATCHES):
            before = weights_of(model)
            for name, value in before.items():
                assert reader.snapshot(step, "reference")[name].tobytes() == value.tobytes()
            loss = model.train_on_batch(batch.inputs, batch.targets, return_dict=True)["loss"]
            model.reset_metrics()
            assert reader.losses["reference"][step] == reader.losses["candidate"][step] == float(loss)
            for name, value in weights_of(model).items():
                assert reader.tensor(step, "candidate", "update", name).tobytes() == (value - before[name]).tobytes()
            for slot in ("momentum", "velocity"):
                kept = [reader.tensor(step, "candidate", slot, name) for name in before]
                assert [x.tobytes() for x in kept] == [x.tobytes() for x in slots_of(model, slot)]


def test_activations_and_gradients_are_those_of_a_tape(recorded: Path) -> None:
    model, batch = zoo.made(zoo.mlp), BATCHES[0]
    shown = keras.Model(model.inputs, [layer.output for layer in model.layers])

    @tf.function
    def step(x: Any, y: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = shown(x, training=True)
            loss = model.compute_loss(x, y, outputs[-1], training=True)
        return outputs, tape.gradient(loss, [weight.value for weight in model.trainable_variables])

    outputs, gradients = step(tf.constant(batch.inputs), tf.constant(batch.targets))
    with TraceReader(recorded) as reader:
        for layer, output in zip(model.layers[:-1], outputs[:-1], strict=True):  # the last is not watched
            assert reader.tensor(0, "reference", "activations", layer.name).tobytes() == output.numpy().tobytes()
        for name, gradient in zip(weights_of(model), gradients, strict=True):
            assert reader.tensor(0, "reference", "gradients", name).tobytes() == gradient.numpy().tobytes()


def test_a_flatten_that_is_not_watched_is_a_view_of_what_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, _ = record(tmp_path / "trace.h5", zoo.cnn, [zoo.batch_for(zoo.cnn)], candidate="sim:tf32")
    with TraceReader(path) as reader:
        by_key = {spec.key: spec.observed for spec in reader.layout.tensors}
        pooled = {lane: reader.tensor(0, lane, "activations", "pool") for lane in ("reference", "candidate")}
        for lane, pool in pooled.items():
            assert by_key[lane, "activations", "flatten"] == "view" and by_key[lane, "activations", "pool"] == "step"
            flat = reader.tensor(0, lane, "activations", "flatten")
            assert flat.shape == (len(pool), pool[0].size) and flat.tobytes() == pool.tobytes()
            assert (lane, "activations", "classes") not in by_key  # neither watched nor a view
    assert pooled["reference"].tobytes() != pooled["candidate"].tobytes()
    with RecordedRun(path) as run:
        replayed = {(t.kind, t.name): t.outcome for t in Replayer(run).replay(0, "candidate").tensors}
    assert replayed["activations", "flatten"] is ReplayOutcome.SAME  # a replay has it by the same way
    for name, is_view in (("flatten", True), ("pool", False)):
        assert inspect(["show", str(path), f"activations/{name}@0"]) == 0
        assert ("as a view" in capsys.readouterr().out) is is_view
    with h5py.File(path) as file:
        kept = file["steps/tensors/activations"]
        assert kept["flatten/candidate"].attrs["observed"] == "view" and "observed" not in kept["pool/candidate"].attrs


def test_batches_are_stored_once_and_are_those_given(recorded: Path) -> None:
    with TraceReader(recorded) as reader:
        for step, batch in enumerate(BATCHES):
            stored = list(reader.batch(step).values())
            assert [x.tobytes() for x in stored] == [batch.inputs.tobytes(), batch.targets.tobytes()]
    with h5py.File(recorded) as file:
        assert file["batches/complete"][()] == 2


def test_settings_tell_how_the_run_went(recorded: Path) -> None:
    with TraceReader(recorded) as reader:
        assert reader.settings["follow"] == "reference" and reader.settings["candidate"] == "CPU:0/graph"
        assert "no_program" not in reader.settings and len(reader.programs) == 1
        assert reader.command == ["a", "command"] and reader.seeds == {"seed": 0}
    with h5py.File(recorded) as file:
        assert file["steps/checked"][()].tolist() == [1] * STEPS


# ---- what is kept


def kept(path: Path, lane: str = "candidate") -> dict[int, set[str]]:
    """Of each step, KIND/NAME of what is kept in full."""
    with TraceReader(path) as reader:
        return {step: {f"{k}/{n}" for at, k, n in reader.kept_in(step) if at == lane} for step in reader.steps}


def test_all_is_kept_but_what_states_and_seeds_give_again(recorded: Path) -> None:
    assert all({name.split("/")[0] for name in names} == KINDS for names in kept(recorded).values())
    assert len(set(map(frozenset, kept(recorded).values()))) == 1


def test_what_is_chosen_is_kept(recorded: Path, tmp_path: Path) -> None:
    options = RecordingOptions(parse_dump_policy("dense/bias,dense_1", "1"), snapshot_every=2)
    path, _ = record(tmp_path / "trace.h5", options=options, units="step")
    variables = ("dense/bias", "dense_1/kernel", "dense_1/bias")
    chosen = {f"{kind}/{name}" for kind in KINDS - {"activations"} for name in variables}
    assert kept(path) == {0: set(), 1: chosen | {"activations/dense_1"}, 2: set()}
    with TraceReader(path) as reader, TraceReader(recorded) as whole:
        assert reader.snapshots == [0, 2]
        for step in range(STEPS):  # a checksum of everything all the same
            for kind in (*KINDS, "weights", "state"):
                for name in reader.names(kind):
                    key = (step, "candidate", kind, name)
                    assert reader.checksum(*key) == whole.checksum(*key) is not None


class Noise(keras.layers.Layer):
    """Draws from a generator whose state no variable holds."""

    def call(self, x: Any) -> Any:
        return x + tf.random.uniform(tf.shape(x), seed=3)


def noisy() -> keras.Model:
    layers = [keras.layers.Dense(3), Noise(), keras.layers.Dropout(0.5, seed=1), keras.layers.Softmax()]
    return keras.Sequential([keras.Input((5,)), *layers])


def test_draws_are_kept_where_no_state_gives_them_again(tmp_path: Path) -> None:
    """Those of the dropout are in the state of Keras's own stream."""
    options = RecordingOptions(DumpPolicy("none"), snapshot_every=1)
    path, _ = record(tmp_path / "trace.h5", noisy, options=options, units="step")
    with TraceReader(path) as reader:
        noise, dropout = reader.names("draws")
        assert kept(path) == {step: {f"draws/{noise}"} for step in range(STEPS)}
        drawn = [reader.tensor(step, "reference", "draws", noise) for step in range(STEPS)]
        assert all(reader.checksum(step, "reference", "draws", dropout) for step in range(STEPS))
    assert all(x.min() >= 0 and x.max() < 1 for x in drawn) and len({x.tobytes() for x in drawn}) == STEPS


# ---- what is refused


@pytest.mark.parametrize(
    ("dump", "steps", "words"),
    [
        ("dens", None, ["--dump dens", "its layers are dense, dense_1, dense_2"]),
        ("dense,conv*", None, ["--dump conv*"]),
        ("all", "3-9", ["--dump-steps 3-9", "0 to 2"]),
        ("all", "1,7", ["--dump-steps 7:", "0 to 2"]),
    ],
)
def test_what_names_nothing_is_refused_before_a_file_is_made(
    tmp_path: Path, dump: str, steps: str | None, words: list[str]
) -> None:
    with pytest.raises(UserError) as refused:
        record(tmp_path / "trace.h5", options=RecordingOptions(parse_dump_policy(dump, steps)))
    assert all(word in str(refused.value) for word in words), refused.value
    assert not any(tmp_path.iterdir())


def test_a_disk_without_room_is_refused_before_a_file_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1 << 20))
    with pytest.raises(UserError, match=r"may take \d+ MiB and .* has 1 MiB free; keep less \(--dump"):
        record(tmp_path / "trace.h5")
    assert not any(tmp_path.iterdir())


# ---- the size that is foretold


@pytest.mark.parametrize(
    ("make", "follow", "portable"), [(zoo.convolutions, "reference", True), (zoo.perceptron, "free", False)]
)
def test_a_trace_is_no_larger_than_foretold(
    tmp_path: Path, make: Callable[[], keras.Model], follow: str, portable: bool
) -> None:
    batches = [zoo.batch_for(make, size=64, seed=seed) for seed in range(2)]
    options = RecordingOptions(snapshot_every=1, portable=portable)
    path, recording = record(tmp_path / "trace.h5", make, batches, options=options, follow=follow)
    forecast = recording.forecast
    assert path.stat().st_size <= forecast.total
    lanes, steps, float32 = 2, len(batches), 4
    shown = [tensor for tensor in recording.kept if tensor.kind in KINDS]
    in_full = lanes * steps * float32 * sum(int(np.prod(tensor.shape)) for tensor in shown)
    assert forecast.tensors == in_full
    weights = zoo.made(make).count_params()
    states = 2 if portable or follow == "free" else 1  # a candidate that follows is stored as no difference
    assert forecast.states == pytest.approx(steps * states * 3 * float32 * weights, rel=0.2)  # with Adam's slots
    batch = batches[0].inputs.nbytes + batches[0].targets.nbytes
    assert forecast.batches == steps * batch


def test_what_a_flagged_step_adds_is_told() -> None:
    from diag.engine.recordings.forecast import Forecast

    sure = Forecast(tensors=3 << 30, states=1 << 29, batches=0, rows=1 << 20, flagged=0)
    expected = "The trace will take at most 3.5 GiB, before compression (tensors 3.0 GiB, states 512 MiB)"
    assert str(sure) == f"{expected}."
    assert str(replace(sure, flagged=5 << 20)) == f"{expected}, and up to 5 MiB for each flagged step."
