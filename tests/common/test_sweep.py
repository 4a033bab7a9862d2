"""Many runs: their results, resuming, what fails, what dies, and what an end leaves behind."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time

import pytest

from diag.common.sweep import results, run
from diag.common.task import RETRIES, Task
from diag.errors import UserError

TASKS = (
    Task("text", "builtins:dict", {"seed": 1, "rate": 0.5}),
    Task("variable", "os:getenv", {"key": "LOCKSTEP_TEST"}, {"LOCKSTEP_TEST": "on"}),
    Task("raises", "json:loads", {"s": "no JSON"}),
    Task("unknown", "json:no_such_function"),
    Task("dies", "os:_exit", {"status": 7}, resources={"GPU": 1}),
    Task("hangs", "subprocess:run", {"args": ["sleep", "60"]}, limit=0.5),
)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    return folder, {done.key: done for done in run(TASKS, folder, jobs=2)}


def test_every_task_has_one_result_in_a_file_of_its_own(swept):
    folder, found = swept
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{task.key}.json" for task in TASKS)
    assert [done.key for done in results(TASKS, folder)] == [task.key for task in TASKS]
    assert list(results(TASKS, folder)) == [found[task.key] for task in TASKS]
    assert found["text"].value == {"seed": 1, "rate": 0.5}
    assert found["text"].num_bytes == len(json.dumps(found["text"].value))
    assert found["variable"].value == "on"
    assert 0 < found["text"].seconds < 30


def test_what_fails_is_a_result(swept):
    _, found = swept
    assert found["raises"].error == "JSONDecodeError: Expecting value: line 1 column 1 (char 0)"
    assert "Traceback" in found["raises"].details
    assert "no_such_function" in found["unknown"].error
    assert "within 0 s" in found["hangs"].error or "within 1 s" in found["hangs"].error
    assert not any(found[key].died for key in ("raises", "unknown", "hangs"))


def test_what_dies_is_tried_again_and_then_a_result(swept):
    _, found = swept
    died = found["dies"]
    assert (died.died, died.attempts, died.error) == (
        True, RETRIES + 1, "its process ended (exit code 7) before it had a result",
    )  # fmt: skip


def test_resuming_runs_only_what_is_missing_or_died(swept):
    folder, _ = swept
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    (folder / "text.json").unlink()
    assert {done.key for done in run(TASKS, folder, jobs=2)} == {task.key for task in TASKS}
    again = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns != times[path.name]}
    assert again == {"text.json", "dies.json"}


def test_a_folder_of_other_tasks_is_refused(swept, tmp_path):
    folder, _ = swept
    other = Task("text", "builtins:dict", {"seed": 2, "rate": 0.5})
    with pytest.raises(UserError, match=r"another task, arguments.seed 1, not 2; name another folder"):
        list(run([other], folder))
    (tmp_path / "text.json").write_text('{"schema": "lockstep-task/1"')
    with pytest.raises(UserError, match="remove it"):
        list(run([other], tmp_path))
    with pytest.raises(ValueError, match="Two tasks"):
        list(run([Task("a", "x:y"), Task("A", "x:y")], tmp_path))
    for key in ("", "a/b", ".hidden", "ü", "x" * 201):
        with pytest.raises(ValueError, match="name a file"):
            Task(key, "x:y")


def test_a_process_is_shared_by_tasks_that_say_so_in_one_environment(tmp_path, monkeypatch):
    monkeypatch.setattr("diag.common.task.MOST_SHARED", 2)
    names = ("first", "second", "third", "alone", "elsewhere", "last")
    tasks = [
        Task(
            name, "os:getpid", {}, {"LOCKSTEP_TEST": "1"} if name == "elsewhere" else {}, shares_process=name != "alone"
        )
        for name in names
    ]
    first, second, third, alone, elsewhere, last = (done.value for done in run(tasks, tmp_path, jobs=1))
    assert first == second
    assert len({first, third, alone, elsewhere, last}) == 5
    assert not _are_running("diag.common.task", "-P", str(os.getpid()))


def test_an_end_ends_every_process_and_keeps_what_is_done(tmp_path):
    word = f"61.{os.getpid()}"
    sleeping = [Task(f"sleeps{n}", "subprocess:run", {"args": ["sleep", f"{word}{n}"]}) for n in range(3)]
    with contextlib.closing(run([Task("quick", "builtins:dict"), *sleeping], tmp_path, jobs=2)) as running:
        assert next(running).key == "quick"
        while not _are_running(f"^sleep {word}"):
            time.sleep(0.02)
        begun = time.monotonic()
    assert time.monotonic() - begun < 5
    assert not _are_running(word)
    assert [path.name for path in tmp_path.iterdir()] == ["quick.json"]


def _are_running(pattern: str, *flags: str) -> bool:
    """Whether a process has a command like this."""
    return subprocess.run(["pgrep", *flags, "-f", pattern], capture_output=True, check=False).returncode == 0
