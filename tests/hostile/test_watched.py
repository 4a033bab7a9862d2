"""A sample of what `python -m tests.hostile.watched` shows: a command opens its trace and no other file."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile import graphs, sound, watched
from tests.hostile.corpus import CORPUS
from tests.hostile.watched import CONNECTION, OTHER, commands, watch


def kinds(path: Path, folder: Path, number: int, other: Path | None = None) -> tuple[int, Counter[str], list[str]]:
    """The exit code of one of the commands, what it opened by class, and what it should not have."""
    seen = watch(commands(path, other or path)[number], folder / "run")
    found, outside = Counter[str](), []
    for (_, kind, opened), count in seen.opened.items():
        found[kind] += count
        outside += [opened] if kind in (OTHER, CONNECTION) else []
    return seen.code, found, outside


@pytest.mark.parametrize("name", ["an_external_link_to_a_document", "external_storage"])
@pytest.mark.parametrize("number", [0, 1], ids=["ls", "verify"])
def test_of_a_trace_that_leads_elsewhere(name: str, number: int, tmp_path: Path) -> None:
    (hostile,) = (each for each in CORPUS if each.name == name)
    hostile.make(tmp_path / "trace.h5")
    code, found, outside = kinds(tmp_path / "trace.h5", tmp_path, number)
    assert (code, outside) == (2, []) and found["the trace"]


def test_of_a_step_that_writes_a_file(tmp_path: Path) -> None:
    (hostile,) = (each for each in graphs.CORPUS if each.name == "writes_a_file")
    code, found, outside = kinds(graphs.written(hostile, tmp_path), tmp_path, 4)
    assert (code, outside) == (2, []) and found["the trace"]


@pytest.mark.slow
def test_of_a_step_that_is_run(tmp_path: Path) -> None:
    shutil.copy(graphs.sound(), tmp_path / "trace.h5")
    code, found, outside = kinds(tmp_path / "trace.h5", tmp_path, 4)
    assert (code, outside) == (0, []) and found["the trace"] and found["the output folder"]


def test_another_file_is_seen(tmp_path: Path) -> None:
    """The watch itself: what is no trace that was named is told, by Python and by the system where strace is."""
    sound.write(tmp_path / "trace.h5")
    elsewhere = tmp_path / "elsewhere"
    shutil.copy(tmp_path / "trace.h5", elsewhere)
    seen = watch(["traces", "verify", str(elsewhere)], tmp_path / "run")
    by = {who for who, kind, path in seen.opened if kind == OTHER and path == str(elsewhere)}
    assert by == {"Python", *(["the system"] if shutil.which("strace") else [])}


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace sees the system's calls")
def test_a_connection_is_seen(tmp_path: Path) -> None:
    code = "import socket; socket.create_connection(('127.0.0.1', 9), 1)"
    seen = watch(["timeit", "-n1", "-r1", code], tmp_path / "run")
    assert {who for who, kind, _ in seen.opened if kind == CONNECTION} == {"Python", "the system"}
    assert watched.told(1, [seen]) == 1
