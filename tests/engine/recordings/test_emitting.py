"""A program that is written from a trace is the same program whatever texts the trace holds."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diag.engine.attribution.cures import changes_of
from diag.engine.recordings.emitting import emit
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.replaying import Replayer
from diag.engine.recordings.replaying_units import LayerReplay, OpReplay, replay_layer, replay_op
from diag.machine.places import Place, parse_place
from tests import traced

NASTY = (
    'a"""\nimport os; os.abort()\n"""', "a'''\nimport os\n'''", "\\", '\\"', 'x"', "'", "\n\rimport os\n", "a\x00b",
    "\u2028import os\u2028", "{0}{device}{{", "}", "\x1b[2J", "#", "\\N{BELL}", "\u202e", "", "x" * 5000,
)  # fmt: skip
CPU = Place("CPU:0")


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


def without_texts(code: str) -> str:
    """A program's structure, its texts left out."""
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


def emitted(path: Path, part: Any, program: Any) -> str:
    emit(path, part, program, CPU, [])
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
    (printed,) = (line for line in code.splitlines() if line.startswith("names = "))
    assert all(name.isprintable() for name in ast.literal_eval(printed.removeprefix("names = ")))


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


def test_what_holds_the_batch_says_so(run: RecordedRun, of_an_op: OpReplay, tmp_path: Path) -> None:
    (given, *_) = (np.asarray(x) for x in of_an_op.evidence[0].inputs)
    says = "of the step (input_0), the data that the model was given"
    assert says in emit(tmp_path / "a.py", of_an_op, run.program(1), CPU, [given.reshape(-1)])
    assert says in " ".join((tmp_path / "a.py").read_text().split())
    assert says in emit(tmp_path / "b.py", of_an_op, run.program(1), CPU, [given.astype(np.float64)])
    assert emit(tmp_path / "c.py", of_an_op, run.program(1), CPU, [given + 1]) == ""
    assert "holds the batch" not in (tmp_path / "c.py").read_text()
