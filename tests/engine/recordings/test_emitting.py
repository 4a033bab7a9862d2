"""A program that is written from a trace is the same program whatever texts the trace holds."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.attribution.cures import changes_of
from diag.engine.lanes.eager import EagerPlace
from diag.engine.recordings.emitting import emit
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.recordings.replaying_units import LayerReplay, OpReplay, replay_layer, replay_op
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.engine.truth.op_judge import OpEvidence, output_arrays
from diag.machine.places import Place, parse_place
from tests import traced

NASTY = (
    'a"""\nimport os; os.abort()\n"""', "a'''\nimport os\n'''", "\\", '\\"', 'x"', "'", "\n\rimport os\n", "a\x00b",
    "\u2028import os\u2028", "{0}{device}{{", "}", "\x1b[2J", "#", "\\N{BELL}", "\u202e", "", "x" * 5000,
)  # fmt: skip
CPU = Place("CPU:0")
COMPUTED = "what the step computed from its batch"


@pytest.fixture(scope="module")
def run() -> Iterator[RecordedRun]:
    with RecordedRun(traced.cpu()) as recorded:
        yield recorded


@pytest.fixture(scope="module")
def of_an_op(run: RecordedRun) -> OpReplay:
    index = next(node.location.index for node in run.program(1).ops if node.op == "MatMul")
    assert index is not None
    return replay_op(run, 1, index, "candidate", CPU, Replayer(run))


@pytest.fixture(scope="module")
def of_a_layer(run: RecordedRun) -> LayerReplay:
    return replay_layer(run, 1, "dense_1", "candidate", CPU, Replayer(run))


@pytest.fixture(scope="module")
def photos() -> Program:
    layers = keras.layers
    model = keras.Sequential(
        [keras.Input((8, 8, 3)), layers.Rescaling(1 / 255), layers.Conv2D(2, 3, name="conv2d"), layers.MaxPooling2D(),
         layers.Flatten(), layers.Dense(2, name="dense")]
    )  # fmt: skip
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return trace(model, Batch(np.zeros((2, 8, 8, 3), "float32"), np.zeros(2, "int64")))


def without_texts(code: str) -> str:
    """A program's structure, its texts left out."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def emitted(path: Path, part: Any, program: Any) -> str:
    emit(path, part, program, CPU)
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_a_program_of_an_op(text: str, run: RecordedRun, of_an_op: OpReplay, tmp_path: Path) -> None:
    location = dataclasses.replace(of_an_op.node.location, layer=text, phase=text, variable=text)
    node = dataclasses.replace(of_an_op.node, location=location, name=text)
    there = dataclasses.replace(of_an_op, node=node)
    code = emitted(tmp_path / "there.py", there, run.program(1))
    assert without_texts(code) == without_texts(emitted(tmp_path / "here.py", of_an_op, run.program(1)))


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_a_program_of_a_layer(text: str, run: RecordedRun, of_a_layer: LayerReplay, tmp_path: Path) -> None:
    program = run.program(1)
    variables = tuple(dataclasses.replace(spec, name=text, layer=text, kind=text) for spec in program.variables)
    units = tuple(dataclasses.replace(unit, layer=text) for unit in of_a_layer.units)
    there = dataclasses.replace(of_a_layer, units=units)
    code = emitted(tmp_path / "there.py", there, dataclasses.replace(program, variables=variables))
    assert without_texts(code) == without_texts(emitted(tmp_path / "here.py", of_a_layer, program))
    with np.load(tmp_path / "there.npz") as data:
        assert all(name.isprintable() for name in data["names"].tolist())


@pytest.mark.parametrize("name", ['a"""b', "a\\", "a'b", "a\nb", "{a}"])
def test_the_name_of_the_file_itself(name: str, run: RecordedRun, of_an_op: OpReplay, tmp_path: Path) -> None:
    code = emitted(tmp_path / f"{name}.py", of_an_op, run.program(1))
    assert without_texts(code) == without_texts(emitted(tmp_path / "here.py", of_an_op, run.program(1)))


@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_code_to_paste_into_a_model(text: str, run: RecordedRun) -> None:
    program = dataclasses.replace(run.program(1), layers=(text,))
    for kind, activation in ((text, text), ("Dense", "relu")):
        config = {"class_name": kind, "config": {"name": text.split("/")[-1], "activation": activation}}
        for change in changes_of([text], [text], program, config, Place("CPU:0")):
            tree = ast.parse(change.code.replace("(..., ", "(").replace("(...)", "()"))
            assert not any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in ast.walk(tree))


@pytest.mark.parametrize("text", ["CPU:0\n", "CPU:٣", "GPU:0;", "CPU:0\n/graph", "GPU:99999"])
def test_a_place_is_a_device_and_nothing_else(text: str) -> None:
    from diag.errors import UserError

    if text.strip() == "CPU:0":
        assert parse_place(text).device == "CPU:0"
    else:
        with pytest.raises(UserError, match="is no place"):
            parse_place(text)


@pytest.mark.parametrize(
    ("op", "holds"),
    [
        ("Mul", "data of the recorded batch (batch_0)"),
        ("Conv2D", "data of the recorded batch (batch_0); values of conv2d/kernel"),  # scaled, as every photo is
        ("MaxPool", COMPUTED),
        ("SparseSoftmaxCrossEntropyWithLogits", f"data of the recorded batch (batch_1); {COMPUTED}"),
        ("MatMul", f"values of dense/kernel; {COMPUTED}"),
    ],
)
def test_it_says_whose_data_it_holds(op: str, holds: str, photos: Program, tmp_path: Path) -> None:
    node = next(node for node in photos.graph if node.op == op)
    inputs = [tf.zeros([n or 1 for n in photos.graph.shape(p).as_list()], photos.graph.dtype(p)) for p in node.inputs]
    outputs = output_arrays(node, EagerPlace(CPU, None).run(node, inputs, ()))
    part = OpReplay(node, (), (OpEvidence(node, inputs, outputs, outputs),))
    says = emit(tmp_path / "op.py", part, photos, CPU)
    assert says == f"op.npz holds {holds}: send it only to whom you would send these."
    assert holds in " ".join((ast.get_docstring(ast.parse((tmp_path / "op.py").read_text())) or "").split())


def test_a_layer_says_whose_data_it_holds(run: RecordedRun, of_a_layer: LayerReplay, tmp_path: Path) -> None:
    says = emit(tmp_path / "layer.py", of_a_layer, run.program(1), CPU)
    assert "values of dense_1/kernel, dense_1/bias" in says and "recorded batch (" not in says
