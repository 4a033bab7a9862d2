"""The callback: a training ends as it would have without it, and what it finds is said where a person looks."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import diag
from diag.common.terminal import ReportConsole
from diag.engine.graphs.tf_runtime import to_numpy
from diag.report import terminal
from tests.test_api import draws, state_of_the_process

X = np.random.default_rng(0).normal(size=(22, 6, 6, 1)).astype(np.float32)
Y = np.arange(22) % 3
TRACED: list[str] = []


class Counted(keras.Model):
    """Notes each time that Keras traces its training step."""

    def compute_metrics(self, *arguments: Any, **named: Any) -> Any:
        TRACED.append(self.name)
        return super().compute_metrics(*arguments, **named)


def made(**compiled: Any) -> keras.Model:
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(3, 3, activation="relu", name="conv")(inputs)
    x = keras.layers.Dropout(0.3)(keras.layers.BatchNormalization()(x))
    outputs = keras.layers.Dense(3, name="head")(keras.layers.Flatten()(x))
    model = Counted(inputs, outputs)
    model.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"], **compiled
    )
    return model


def dataset() -> Any:
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(22).batch(5)  # the last of an epoch has 2


def generator() -> Iterator[Any]:
    """Endless, drawing from NumPy's own generator wherever it runs."""
    while True:
        rows = np.random.permutation(22)[:5]
        yield X[rows] + np.random.normal(size=(5, 6, 6, 1)).astype(np.float32), Y[rows]


def trained(data: Callable[[], Any], callbacks: list[Any], **fit: Any) -> dict[str, Any]:
    """All that a training of two epochs leaves, from one seed."""
    keras.backend.clear_session()
    keras.utils.set_random_seed(5)
    TRACED.clear()
    model = made()
    history = model.fit(data(), epochs=2, verbose=0, callbacks=callbacks, **fit).history
    function, drawn = model.train_function, draws()
    if data is generator:
        del drawn[1]  # a thread of Keras's draws of NumPy ahead of training, as far as it comes
    variables = [*model.variables, *model.optimizer.variables]
    left = {f"{number} {v.path}": to_numpy(v.value).tobytes() for number, v in enumerate(variables)}
    return {**left, "loss": history["loss"], "accuracy": history["accuracy"], "draws": drawn, "function": function}


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize(
    ("data", "fit"),
    [(dataset, {"shuffle": False}), (generator, {"steps_per_epoch": 5, "shuffle": False})],
    ids=["shuffled tf.data", "generator"],
)
def test_training_ends_bit_for_bit_as_without_it(data: Callable[[], Any], fit: dict[str, Any]) -> None:
    before = state_of_the_process()
    alone, traced = trained(data, [], **fit), len(TRACED)
    callback = diag.LockstepCallback("CPU:0/eager", every=4, tf32="off", deterministic=True)
    watched = trained(data, [callback], **fit)
    own = [watched.pop("function"), alone.pop("function")]
    assert own[0].__qualname__ == own[1].__qualname__ and own[0].__module__.startswith("keras")
    assert watched == alone
    of_layers = {"session": {}}  # the two trainings each make some
    assert state_of_the_process() | of_layers == before | of_layers
    report = callback.report
    assert report is not None and report.verdict in ("identical", "rounding")
    assert list(report.result.step_numbers) == [0, 4, 8] and len(report.losses["reference"]) == 3
    assert len(TRACED) == traced


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A training of two epochs that is checked where products are of TF32."""
    folder = tmp_path_factory.mktemp("logs")
    seen: list[dict[str, float]] = []
    callback = diag.LockstepCallback("sim:tf32", every=3)
    after = [
        keras.callbacks.CSVLogger(folder / "log.csv"),
        keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(dict(logs))),
    ]
    model = made()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        history = model.fit(dataset(), epochs=2, verbose=2, shuffle=False, callbacks=[callback, *after]).history
    texts = [str(each.message) for each in said if "Divergence" in str(each.message) and each.filename == __file__]
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    return {"callback": callback, "seen": seen, "said": texts, "rows": rows, "history": history}


def test_what_it_finds_is_warned_of_once_and_in_the_report(faulty: dict[str, Any]) -> None:
    callback, said = faulty["callback"], faulty["said"]
    assert said and said[0].startswith("Divergence at step 0, forward: ") and "tf32" in said[0]
    assert len(set(said)) == len(said) <= 2
    assert callback.report.verdict == "divergence" and list(callback.report.result.step_numbers) == [0, 3, 6, 9]
    printed = io.StringIO()
    terminal.render(callback.report.result, ReportConsole(file=printed, width=100), is_verbose=True)
    assert "step 9: reference" in printed.getvalue() and "sim:tf32" in str(callback.report)


def test_its_numbers_are_in_the_logs_of_those_after_it(faulty: dict[str, Any]) -> None:
    names = faulty["callback"].layers
    checked = [number for number, logs in enumerate(faulty["seen"]) if "lockstep/excess_max" in logs]
    assert checked == [0, 3, 6, 9]
    first = faulty["seen"][0]
    assert first["lockstep/excess_max"] > 1 and names[int(first["lockstep/worst_layer"])] in ("conv", "head")
    for number, row in enumerate(faulty["rows"]):
        worst = max(faulty["seen"][step]["lockstep/excess_max"] for step in checked[2 * number : 2 * number + 2])
        assert float(row["lockstep/excess_max"]) == worst == faulty["history"]["lockstep/excess_max"][number]
        assert float(row["lockstep/divergences"]) >= 1


def test_it_stops_or_raises_and_leaves_the_model_s_own_function() -> None:
    model = made()
    with pytest.warns(UserWarning, match="Divergence at step 0"):
        stopped = model.fit(X, Y, verbose=0, callbacks=[diag.LockstepCallback("sim:tf32", on_divergence="stop")])
    assert len(stopped.epoch) == 1 and model.optimizer.iterations == 1
    own, callback = model.train_function, diag.LockstepCallback("sim:tf32", on_divergence="raise")
    with pytest.raises(diag.DivergenceError, match="Divergence at step 0") as raised:
        model.fit(X, Y, verbose=0, callbacks=[callback])
    assert raised.value.report is callback.report and callback.report.verdict == "divergence"
    assert model.train_function is own and model.optimizer.iterations == 1


@pytest.mark.slow
def test_checks_end_with_their_time_which_is_said_once() -> None:
    callback = diag.LockstepCallback("CPU:0", every=1, max_seconds_per_epoch=1e-9)
    with pytest.warns(UserWarning, match="max_seconds_per_epoch is 1e-09") as said:
        history = made().fit(X, Y, batch_size=5, epochs=2, verbose=0, callbacks=[callback]).history
    assert len(said) == 1 and callback.report is not None
    assert list(callback.report.result.step_numbers) == [0, 5]
    assert not any(math.isnan(value) for value in history["lockstep/excess_max"])


def test_a_later_check_that_fails_costs_no_training() -> None:
    model, callback = made(), diag.LockstepCallback("CPU:0", every=1)
    see = callback._checked

    def fails(checks: Any, batch: Any) -> Any:
        if checks.numbers:
            checks.check = lambda number, batch: 1 / 0
        return see(checks, batch)

    callback._checked = fails
    with pytest.warns(UserWarning, match=r"check of step 1 failed, .*: ZeroDivisionError: division by zero"):
        model.fit(X, Y, batch_size=5, verbose=0, callbacks=[callback])
    assert model.optimizer.iterations == 5


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"candidate": "GPU:77"}, "this machine has no GPU:77"),
        ({"every": 0}, "every: expected a whole number of batches, at least 1. Received: every=0"),
        ({"on_divergence": "shout"}, "expected one of warn, stop, raise. Received: on_divergence='shout'"),
        ({"max_seconds_per_epoch": -1}, "Received: max_seconds_per_epoch=-1"),
        ({"steps": 3}, "steps is no setting of single checks; expected one of candidate, reference"),
        ({"units": "atom"}, "invalid choice: 'atom'"),
    ],
)
def test_what_is_asked_wrongly_is_a_value_error(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        diag.LockstepCallback(**{"candidate": "CPU:0", **asked})
    assert "\n" not in str(raised.value)


def test_several_steps_an_execution_are_refused() -> None:
    model = made(steps_per_execution=2)
    with pytest.raises(ValueError, match="compile it with steps_per_execution=1"):
        model.fit(X, Y, verbose=0, callbacks=[diag.LockstepCallback("CPU:0")])
    assert model.optimizer.iterations == 0


def test_assert_lockstep_fails_a_test_with_the_sentence_and_the_trace(tmp_path: Path) -> None:
    asked = {"steps": 1, "fit": {"batch_size": 8}}
    report = diag.assert_lockstep(made(), (X, Y), candidate="CPU:0", out=tmp_path / "right", **asked)
    assert report.verdict == "identical"
    with pytest.raises(AssertionError, match=r"^Divergence at step 0.*tf32.* Trace: .*trace\.h5$"):
        diag.assert_lockstep(
            made(), (X, Y), candidate="sim:tf32", out=tmp_path / "wrong", attribute=False, units="layer", **asked
        )
    assert (tmp_path / "wrong" / "trace.h5").exists()
