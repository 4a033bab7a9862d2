"""Lockstep from Python: what it gives, and that it leaves a process as it found it."""

from __future__ import annotations

import json
import logging
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend.common import global_state
from tensorflow.python.framework import config

import diag
from diag.engine.graphs.tf_runtime import to_numpy
from diag.numerics.allowances import in_force
from tests.test_run import python
from traces.reader import TraceReader

X = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)
Y = X[:, :1] - X[:, 1:2]


def made() -> keras.Model:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dense(1)])
    model.compile("adam", "mse", metrics=["mae"])
    return model


def compared(model: keras.Model, folder: Path, data: Any = (X, Y), **settings: Any) -> diag.Report:
    given = {"candidate": "CPU:0", "steps": 2, "units": "step", "fit": {"batch_size": 8}, **settings}
    return diag.compare_training(model, data, out=folder / "run", **given)


def test_a_model_in_memory_that_was_never_compiled_predicts(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(5, activation="tanh"), keras.layers.Dropout(0.5)])
    weights, expected = model.get_weights(), model.predict(X, batch_size=8, verbose=0)
    report = compared(model, tmp_path, (X, Y), mode="predict", candidate="sim:tf32", units="layer", steps=5)
    assert report.verdict == "divergence" and report.first is not None
    assert (report.first.where.op_type, report.first.cause) == ("MatMul", "format:tf32-rne")
    means = [float(np.mean(expected[start : start + 8], dtype=np.float64)) for start in (0, 8, 16)]
    assert report.losses["reference"] == means and report.result.mode == "predict"
    assert all(map(np.array_equal, weights, model.get_weights())) and not model.compiled
    assert np.array_equal(expected, model.predict(X, batch_size=8, verbose=0))
    with pytest.raises(ValueError, match="mode='guess': expected one of train, predict"):
        compared(model, tmp_path, mode="guess")
    with pytest.raises(ValueError, match="--twins 3 with --mode predict"):
        compared(model, tmp_path, mode="predict", twins=3)


def test_it_finds_in_a_model_in_memory_what_the_command_finds_in_a_file(tmp_path: Path) -> None:
    report = compared(made(), tmp_path, candidate="sim:tf32", units="layer", attribute=False)
    assert report.verdict == "divergence"
    assert report.first is not None and report.first.where.layer.startswith("dense")
    assert [len(losses) for losses in report.losses.values()] == [2, 2]
    report.save(tmp_path / "a.json")
    saved = json.loads((tmp_path / "a.json").read_text())
    assert saved["verdict"] == "divergence" and saved == json.loads((tmp_path / "run" / "report.json").read_text())
    report.save(tmp_path / "a.txt")
    assert (tmp_path / "a.txt").read_text() == str(report)
    assert "sim:tf32" in str(report) and "python -m diag.run" not in str(report)
    shown = report._repr_html_()
    assert "Divergence at step" in shown and "Do now" in shown and "error over bound" in shown
    report.save(tmp_path / "a.html")
    assert "Content-Security-Policy" in (tmp_path / "a.html").read_text() and "op-table" in report._page()
    assert report.issue().startswith("**Divergence at step")
    with TraceReader(tmp_path / "run" / "trace.h5") as trace:
        assert trace.command[0].startswith("diag.compare_training(") and "candidate='sim:tf32'" in trace.command[0]


def test_epochs_follow_each_other_until_there_are_enough_steps(tmp_path: Path) -> None:
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(20)
    report = compared(made(), tmp_path, data, steps=5, fit={"shuffle": False})
    assert report.verdict == "identical" and len(report.losses["reference"]) == 5


def test_the_model_is_as_it_was_and_trains_as_it_would_have(tmp_path: Path) -> None:
    keras.utils.set_random_seed(3)
    model = made()
    start = [to_numpy(v.value) for v in model.variables]
    alone = keras.models.clone_model(model)
    alone.compile("adam", "mse", metrics=["mae"])
    alone.set_weights(model.get_weights())
    compared(model, tmp_path)
    for before, now in zip(start, model.variables, strict=True):
        np.testing.assert_array_equal(before, to_numpy(now.value))
    assert model.optimizer.iterations == 0
    for each in (model, alone):
        each.fit(X, Y, batch_size=8, epochs=2, shuffle=False, verbose=0)
    for a, b in zip(model.weights, alone.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(a.value), to_numpy(b.value))


def state_of_the_process() -> dict[str, Any]:
    return {
        "tf32": tf.config.experimental.tensor_float_32_execution_enabled(),
        "determinism": config.is_op_determinism_enabled(),
        "policy": keras.config.dtype_policy().name,
        "grappler": tf.config.optimizer.get_experimental_options(),
        "functions run eagerly": tf.config.functions_run_eagerly(),
        "fit": (keras.Model.fit, keras.Model.train_on_batch, keras.layers.Layer.__call__, tf.GradientTape.gradient),
        "apply": (keras.optimizers.Optimizer.apply, keras.optimizers.LossScaleOptimizer.scale_loss),
        "stdout": (sys.stdout, sys.stderr, list(sys.argv), list(sys.path)),
        "session": dict(global_state.get_global_attribute("object_name_uids", {})),  # counts of names of layers
        "numbers": (keras.config.floatx(), keras.config.image_data_format(), keras.config.epsilon()),
        "environment": dict(os.environ),
        "log level": logging.getLogger("tensorflow").level,
        "allowances": in_force(),
    }


def draws() -> list[Any]:
    return [random.random(), np.random.random(), *tf.data.Dataset.range(9).shuffle(9).as_numpy_iterator()]


@pytest.mark.parametrize(
    "settings", [{"tf32": "off"}, {"deterministic": True}, {"follow": "free", "twins": 3}, {"candidate": "sim:tf32"}]
)
def test_the_process_is_as_it_was(settings: dict[str, Any], tmp_path: Path) -> None:
    model = made()
    keras.utils.set_random_seed(8)
    wanted, before = draws(), state_of_the_process()
    keras.utils.set_random_seed(8)
    compared(model, tmp_path, attribute=False, **settings)
    assert draws() == wanted
    assert state_of_the_process() == before


def test_it_is_as_it_was_after_an_error_too(tmp_path: Path) -> None:
    model = made()
    before = state_of_the_process()
    with pytest.raises(ValueError, match=r"fit itself would not train: ValueError: .*cardinality"):
        compared(model, tmp_path, (X, Y[:5]), tf32="off")
    assert state_of_the_process() == before
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"candidate": "GPU:77"}, "this machine has no GPU:77"),
        ({"candidate": "tpu"}, "'tpu' is no place"),
        ({"steps": 0}, "expected a whole number of at least 1, received '0'"),
        ({"follow": "nobody"}, "invalid choice: 'nobody'"),
        ({"colour": "red"}, "unrecognized arguments: --colour=red"),
        ({"reference": "trace:a.h5"}, "a recorded step needs no script"),
    ],
)
def test_what_is_asked_wrongly_is_a_value_error(settings: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said) as raised:
        compared(made(), tmp_path, **settings)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_what_watch_fit_is_asked_wrongly_is_said_at_once() -> None:
    with pytest.raises(ValueError, match="'tpu' is no place"):
        diag.watch_fit(candidate="tpu")
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        diag.nothing  # noqa: B018


def test_to_import_diag_loads_neither_tensorflow_nor_numpy() -> None:
    code = "import sys, diag; print([name for name in ('tensorflow', 'keras', 'numpy', 'rich') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


SCRIPT = """
import diag
diag.watch_fit(candidate="sim:tf32", steps=2, out="run", quiet=True{more})
import keras, numpy as np
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
history = model.fit(np.ones((8, 3)), np.ones((8, 2)), batch_size=2, verbose=0)
print("trained", model.optimizer.iterations.numpy())
"""


@pytest.mark.parametrize(
    ("more", "code", "after"), [pytest.param("", 1, "", marks=pytest.mark.slow), (", and_train=True", 0, "trained 4")]
)
def test_one_line_in_a_script_does_the_same(more: str, code: int, after: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(SCRIPT.format(more=more))
    ran = python("mine.py", folder=tmp_path)
    assert ran.returncode == code, ran.stderr[-1000:]
    assert "DIVERGENCE" in ran.stdout.upper() and "mine.py: 2 batches of fit" in " ".join(ran.stdout.split())
    assert ("trained" in ran.stdout) == bool(after) and after in ran.stdout
    assert (tmp_path / "run" / "trace.h5").exists()
