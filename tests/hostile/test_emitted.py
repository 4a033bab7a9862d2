"""Whatever texts a trace holds, the program that is emitted from it is the same program: one literal stays one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import h5py
import pytest

from diag import replay
from diag.engine.recordings.recorded_run import RecordedRun
from tests.engine.recordings.test_emitting import NASTY, without_texts
from tests.hostile import graphs
from tests.hostile.corpus import put

LAYER, RENAMED = "b", "a layer by another name"
ALL = "".join(text for text in NASTY if text.isprintable() and len(text) < 1000)
CONTROLS = "".join(text for text in NASTY if not text.isprintable())
DOCUMENTS = ("command", "seeds", "settings", "model_config", "environment/reference", "environment/candidate")

REFUSED = ("settings", "environment/candidate")
"""Where another text is no lane to follow, and no place."""

Change = Callable[[str], str]


@pytest.fixture(scope="module")
def op() -> str:
    with RecordedRun(graphs.sound()) as recorded:
        ops = recorded.program(1).ops
        return str(next(node.location.index for node in ops if node.op == "MatMul" and node.location.layer == LAYER))


def everywhere(value: Any, change: Change) -> Any:
    """A document with its texts changed, keys too."""
    if isinstance(value, dict):
        return {change(key): everywhere(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [everywhere(each, change) for each in value]
    return change(value) if isinstance(value, str) else value


def in_step(change: Callable[[dict[str, Any]], None], folder: Path) -> Path:
    """A trace whose training step has another document."""
    path = folder / "trace.h5"
    shutil.copy(graphs.sound(), path)
    with h5py.File(path, "r+") as file:
        blob = graphs.changed(graphs.program_in(file), lambda step: change(step.document), path)
        graphs.put_program(file, blob)
    return path


def renamed(document: dict[str, Any], name: str) -> None:
    """The layer by another name wherever it stands."""

    def change(text: str) -> str:
        return name if text == LAYER else text

    for part in ("variables", "layers", "layer_outputs"):
        document[part] = everywhere(document[part], change)
    for graph in (document["graph"], *document["functions"].values()):
        graph["sites"] = {node: everywhere(site, change) for node, site in graph["sites"].items()}


def emitted(path: Path, folder: Path, *words: str) -> str | None:
    """The structure of the program that replay writes; None where it refuses the trace and writes nothing."""
    program = folder / f"{len(list(folder.iterdir()))}.py"
    code = replay.main([str(path), "--step", "1", *words, "--emit", str(program)])
    if code == 2:
        assert not program.exists() and not program.with_suffix(".npz").exists()
        return None
    assert code in (0, 1)
    return without_texts(program.read_text(encoding="utf-8"))


@cache
def of_sound(*words: str) -> str | None:
    """What is emitted from the trace that nobody changed."""
    with TemporaryDirectory() as folder:
        return emitted(graphs.sound(), Path(folder), *words)


@pytest.mark.slow
@pytest.mark.parametrize("text", NASTY, ids=range(len(NASTY)))
def test_the_name_of_a_layer(text: str, op: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = f"{RENAMED}{text}"
    path = in_step(lambda document: renamed(document, name), tmp_path)
    capsys.readouterr()
    for words, then in ((("--op", op), ("--op", op)), (("--layer", LAYER), ("--layer", name))):
        assert emitted(path, tmp_path, *then) == of_sound(*words)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", [ALL, CONTROLS], ids=["printable", "controls"])
@pytest.mark.parametrize("field", ["name", "kind", "layer", "dtype", "of"])
def test_what_a_variable_is_called(field: str, text: str, op: str, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for number, variable in enumerate(document["variables"]):
            if variable.get(field) is not None:
                variable[field] += f"{text}{number}"

    path = in_step(change, tmp_path)
    for words in (("--op", op), ("--layer", LAYER)):
        there = emitted(path, tmp_path, *words)
        assert there is None or there == of_sound(*words)
        assert (there is None) == (field in ("name", "dtype"))


@pytest.mark.slow
@pytest.mark.parametrize("text", [ALL, CONTROLS], ids=["printable", "controls"])
@pytest.mark.parametrize("number", range(3), ids=["phase", "layer", "variable"])
def test_where_an_op_belongs(number: int, text: str, op: str, tmp_path: Path) -> None:
    def change(document: dict[str, Any]) -> None:
        for graph in (document["graph"], *document["functions"].values()):
            for site in graph["sites"].values():
                if site[number] is not None:
                    site[number] += text

    there = emitted(in_step(change, tmp_path), tmp_path, "--op", op)
    assert there is None or there == of_sound("--op", op)
    assert (there is None) == (number == 0)  # a phase is one of three


@pytest.mark.parametrize("text", [ALL, CONTROLS], ids=["printable", "controls"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_text_of_a_document(name: str, text: str, op: str, tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    shutil.copy(graphs.sound(), path)
    with h5py.File(path, "r+") as file:
        document = json.loads(file[name][()])
        kept = set(document) if isinstance(document, dict) else set()
        document = everywhere(document, lambda each: each if each in kept else each + text)
        put(file, name, json.dumps(document))
    for words in (("--op", op), ("--layer", LAYER)):
        there = emitted(path, tmp_path, *words)
        assert there is None or there == of_sound(*words)
        assert (there is None) == (name in REFUSED)
