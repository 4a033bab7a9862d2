"""Kinds of models and data, each through a whole run; what is right stands in tests/kinds.py."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag import lockstep, replay
from tests import kinds
from traces.reader import TraceReader

DATA = {
    "spectral": "spectral_data",
    "alignment": "alignment_data",
    "sentences": "sentences_in_order",
    "table": "table_data",
    "any_length": "any_length_data",
    "rebuilding": "without_targets",
    "integers": "integers_data",
    "bags": "bags_data",
}
AGREE = ["nested", "jitted", "scans", "double", "choosing", "handed_on", "long_names", *DATA]
DATA["neighbours"] = "neighbours_data"


@functools.cache
def ran(name: str, candidate: str, steps: int = 2) -> tuple[int, dict[str, Any], Path]:
    """The exit code, the report with its notes, and the trace of a run of a model on its data."""
    folder = Path(tempfile.mkdtemp(prefix="lockstep-kinds-")) / "run"
    arguments = ["--model", f"tests/kinds.py:{name}", "--data", f"tests/kinds.py:{DATA.get(name, 'numbers')}"]
    arguments += [
        "--candidate",
        candidate,
        "--steps",
        str(steps),
        "--batch-size",
        "4",
        "--verbose",
        "--out",
        str(folder),
    ]
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        code = lockstep.main([*arguments, "--quiet"])
    notes = [" ".join(note.split()) for note in printed.getvalue().split("\nnote  ")[1:]]
    return code, json.loads((folder / "report.json").read_text()) | {"notes": notes}, folder / "trace.h5"


@pytest.mark.parametrize("name", AGREE)
@pytest.mark.slow
def test_op_by_op_is_at_most_a_rounding_away(name):
    code, report, _ = ran(name, "CPU:0/eager")
    assert (code, report["verdict"] in ("identical", "rounding")) == (0, True)


@pytest.mark.parametrize(
    "name",
    ["spectral", *(pytest.param(x, marks=pytest.mark.slow) for x in ("alignment", "scans", "any_length", "sentences"))],
)
def test_xla_only_rounds_differently(name):
    """A loop has a bound that XLA knows only where the step is traced for it."""
    code, report, _ = ran(name, "CPU:0/xla", steps=1)
    assert (code, report["verdict"]) == (0, "rounding")


def test_what_xla_makes_of_nan_in_a_maximum_is_named():
    code, report, _ = ran("neighbours", "CPU:0/xla", steps=1)
    first = report["first_divergence"]
    assert (code, first["layer"], first["cause"], first["blame"]) == (1, "neighbours", "wrong-elements", "xla")
    assert first["evidence"]["passes_over_nan"] == ["UnsortedSegmentMax"]


@pytest.mark.parametrize(
    ("fault", "op_type", "layer"), [("unscaled", "IRFFT", "filter"), ("conjugate", "FFT", "spectrum")]
)
def test_a_transform_that_is_wrong_is_named(fault, op_type, layer):
    code, report, _ = ran("spectral", f"sim:tests/kinds.py:{fault}/eager")
    first = report["first_divergence"]
    assert (code, first["op_type"], first["layer"], first["phase"]) == (1, op_type, layer, "forward")


def test_complex_tensors_are_kept_as_pairs():
    _, _, trace = ran("spectral", "CPU:0/eager")
    with TraceReader(trace) as reader:
        kept = reader.tensor(0, "reference", "activations", "spectrum")
    assert (kept.shape, kept.dtype) == ((4, 8, 2), np.float32)


def test_a_loss_with_functions_of_its_own_is_that_of_keras():
    _, _, trace = ran("alignment", "CPU:0/graph", steps=1)
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = kinds.alignment()
    with TraceReader(trace) as reader:
        batch = reader.batch(0)
        losses = reader.losses["reference"]
    assert losses[0] == pytest.approx(
        float(model.compute_loss(y=batch["batch_1"], y_pred=model(batch["batch_0"]))), 1e-6
    )


@pytest.mark.parametrize(
    ("name", "layers"), [("sentences", "vectorize"), pytest.param("table", "colours, codes", marks=pytest.mark.slow)]
)
def test_what_works_on_texts_is_said_and_the_rest_judged(name, layers):
    code, report, _ = ran(name, "sim:tf32/graph", steps=1)
    notes = [note for note in report["notes"] if "texts" in note]
    assert [note.split(":")[0] for note in notes] == [layers]
    assert code == 1 and report["first_divergence"]["layer"] in ("gru", "classes", "hidden", "out")


@pytest.mark.parametrize(("name", "step"), [("sentences", 3), ("table", 1), ("any_length", 1), ("any_length", 2)])
@pytest.mark.slow
def test_a_step_of_any_length_is_replayed_bit_for_bit(name, step, capsys):
    _, _, trace = ran(name, "CPU:0/eager", 4)
    assert replay.main([str(trace), "--step", str(step)]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_the_trace_has_each_batch_in_its_own_length():
    _, _, trace = ran("any_length", "CPU:0/graph", steps=3)
    with TraceReader(trace) as reader:
        kept = [reader.batch(step)["batch_0"] for step in range(3)]
    for x, (y, _) in zip(kept, kinds.any_length_data().take(3).as_numpy_iterator(), strict=True):
        np.testing.assert_array_equal(x, y)


def test_weights_that_no_gradient_reaches_are_said(recwarn):
    """A function that is traced as Keras looks for shapes keeps what it saw then: fit itself moves nothing of it."""
    model = kinds.lazy()
    model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
    x, y = kinds.numbers()
    model.fit(x, y, batch_size=4, verbose=0)
    before = model.first.get_weights()
    model.fit(x, y, batch_size=4, verbose=0)
    assert all(map(np.array_equal, before, model.first.get_weights()))
    _, report, _ = ran("lazy", "CPU:0/graph")
    assert any(note.startswith("no gradient reaches 2 of the weights") for note in report["notes"])


def test_ragged_and_sparse_tensors_are_given_to_the_model_as_they_are(capsys):
    """To predict: what a trace holds of them are dense arrays, by name, from which TensorFlow's own can be made."""
    code, report, trace = ran("bags", "CPU:0/eager", 4)
    assert (code, report["verdict"]) == (0, "identical")
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    model = kinds.bags()
    with TraceReader(trace) as reader:
        batch, losses = reader.batch(0), reader.losses["reference"]
    words = tf.RaggedTensor.from_row_splits(batch["batch_3"], batch["batch_4"])
    counts = tf.SparseTensor(batch["batch_0"], batch["batch_1"], batch["batch_2"])
    model.compile(loss="sparse_categorical_crossentropy")
    predicted = model({"words": words, "counts": counts})
    assert losses[0] == pytest.approx(float(model.compute_loss(y=batch["batch_5"], y_pred=predicted)), 1e-6)
    assert replay.main([str(trace), "--step", "3"]) == 2
    assert "ragged and sparse tensors" in capsys.readouterr().err
    assert replay.main([str(trace), "--step", "3", "--trust"]) == 0
    assert "bit for bit" in capsys.readouterr().out


def test_rows_of_different_lengths_are_refused_in_one_line(tmp_path, capsys):
    arguments = [
        "--model",
        "tests/kinds.py:any_length",
        "--data",
        "tests/kinds.py:ragged",
        "--out",
        str(tmp_path / "run"),
    ]
    assert lockstep.main([*arguments, "--candidate", "CPU:0"]) == 2
    said = capsys.readouterr().err.strip()
    assert "fails on the first batch of the data (float32 (4, None, 3))" in said
    assert "x1b" not in said and "\n" not in said
    assert not (tmp_path / "run").exists()


def test_a_step_is_traced_for_so_many_shapes_and_no_more(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("diag.engine.step.tracing.MOST_TRACES", 2)
    arguments = ["--model", "tests/kinds.py:any_length", "--data", "tests/kinds.py:any_length_data", "--steps", "4"]
    assert lockstep.main([*arguments, "--candidate", "CPU:0", "--out", str(tmp_path / "run")]) == 2
    assert "2 different shapes" in capsys.readouterr().err


def test_a_line_of_the_models_own_that_fails_is_named(tmp_path, capsys):
    arguments = [
        "--model",
        "tests/kinds.py:failing",
        "--data",
        "tests/kinds.py:without_targets",
        "--candidate",
        "CPU:0",
    ]
    assert lockstep.main([*arguments, "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err.strip()
    assert "fails at kinds.py:" in said and "compute_loss: ValueError: None values" in said and "\n" not in said


@pytest.mark.parametrize(
    ("model", "data", "policy", "words"),
    [
        ("guarded", "four_numbers", "float32", "fails as the model is, at the reference as well"),
        ("loss_in_float16", "four_numbers", "mixed_float16", "of Keras: TypeError"),
        ("counted_sparsely", "integers_data", "float32", "sparse_bincount of Keras: TypeError"),
    ],
)
def test_what_fit_refuses_as_well_is_no_bug_of_ours(model, data, policy, words, tmp_path, capsys):
    """TensorFlow gives up in the step as `fit` runs it; and Keras in what it calls itself."""
    given = ["--model", f"tests/kinds.py:{model}", "--data", f"tests/kinds.py:{data}", "--policy", policy]
    assert lockstep.main([*given, "--candidate", "CPU:0", "--out", str(tmp_path / "run"), "--steps", "1"]) == 2
    said = capsys.readouterr().err.strip()
    assert words in said and said.endswith("`fit` would as well") and "\n" not in said
