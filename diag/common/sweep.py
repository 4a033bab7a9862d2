"""Many runs that do not depend on each other: on this machine or a cluster, their results one small file each.

    tasks = [Task(f"seed{seed}", "package.module:function", {"seed": seed}) for seed in range(3)]
    for done in run(tasks, folder):  # as they come; what the folder has already comes first
        print(done.key, done.value if done.error is None else done.error)
    total = sum(done.value for done in results(tasks, folder))  # in the order of the tasks

A run that was ended goes on where it was: what has its file is not run again, unless its process died.  Every task
has a process of its own (diag/common/task.py).
"""

from __future__ import annotations

import contextlib
import json
import queue
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from diag.common.child import PAUSE
from diag.common.cluster import on_cluster
from diag.common.files import claimed, write_report
from diag.common.task import Done, Task, Unwanted, run_task
from diag.errors import UserError

SCHEMA = "lockstep-task/1"
Computed: TypeAlias = "Generator[tuple[Task, Done], None, None]"


def run(tasks: Sequence[Task], folder: Path, *, jobs: int | None = None, cluster: str | None = None) -> Iterator[Done]:
    """Every task's result, as they come; what is in the folder already comes first.

    A task that fails is a result with an error.  Closing this, and Ctrl-C, end all that runs.

    Args:
      folder: where each result is written, as KEY.json; one run at a time may have it.
      jobs: how many at a time on this machine (default: half of its cores).  Of each resource there is one here:
        those that need it follow one another, beside the others.
      cluster: the address of a Dask scheduler, tcp://HOST:8786, whose workers run them instead.

    Raises:
      UserError: the folder cannot be had, or holds results of other tasks; the cluster cannot be reached, or has no
        worker that a task asks for.
      ValueError: two keys are alike.
    """
    _refuse_alike(tasks)
    with claimed(folder):
        missing = []
        for task in tasks:
            done = _kept(task, folder)
            if done is None or done.died:
                missing.append(task)
            else:
                yield done
        with contextlib.closing(_computed(missing, jobs, cluster)) as computed:
            for task, done in computed:
                document = {"schema": SCHEMA, "task": task.computes, **asdict(done)}
                write_report(_path(task, folder), json.dumps(document, allow_nan=False) + "\n")
                yield done


def results(tasks: Sequence[Task], folder: Path) -> Iterator[Done]:
    """What a folder has of the tasks, in their order; a task without a file is left out.

    Raises UserError where a file is of another task, or none of ours.
    """
    return (done for task in tasks if (done := _kept(task, folder)) is not None)


def _refuse_alike(tasks: Sequence[Task]) -> None:
    seen: dict[str, str] = {}
    for task in tasks:
        folded = task.key.casefold()  # one file to a disk that tells no capitals
        if folded in seen:
            raise ValueError(f"Two tasks with one key. Received: {seen[folded]!r} and {task.key!r}")
        seen[folded] = task.key


def _computed(tasks: Sequence[Task], jobs: int | None, cluster: str | None) -> Computed:
    if not tasks:
        return
    if cluster is None:
        yield from _here(tasks, jobs or _half_of_the_cores())
    else:
        yield from on_cluster(tasks, cluster)


def _half_of_the_cores() -> int:
    import joblib  # which a --help need not wait for; it counts those that a container has

    return max(1, joblib.cpu_count() // 2)


def _here(tasks: Sequence[Task], jobs: int) -> Computed:
    """Each task's process is waited for by a thread: of `jobs`, or of one that has all tasks of a resource."""
    is_ended = threading.Event()
    with contextlib.ExitStack() as pools:
        by_resource: dict[tuple[str, ...], ThreadPoolExecutor] = {}
        for needed in dict.fromkeys(tuple(sorted(task.resources)) for task in tasks):
            by_resource[needed] = pools.enter_context(ThreadPoolExecutor(1 if needed else jobs))
        finished: queue.SimpleQueue[tuple[Task, Future[Done]]] = queue.SimpleQueue()
        try:
            for task in tasks:
                future = by_resource[tuple(sorted(task.resources))].submit(_unless, is_ended, task)
                future.add_done_callback(partial(_put, finished, task))
            for _ in tasks:
                task, future = _next(finished)
                yield task, future.result()
        finally:
            is_ended.set()


def _put(finished: queue.SimpleQueue[tuple[Task, Future[Done]]], task: Task, future: Future[Done]) -> None:
    finished.put((task, future))


def _next(finished: queue.SimpleQueue[tuple[Task, Future[Done]]]) -> tuple[Task, Future[Done]]:
    """Waits, with a look up now and then: a signal that another thread took does not wake this one."""
    while True:
        with contextlib.suppress(queue.Empty):
            return finished.get(timeout=PAUSE)


def _unless(is_ended: threading.Event, task: Task) -> Done:
    if is_ended.is_set():
        raise Unwanted(task.key)
    return run_task(task, lambda: not is_ended.is_set())


def _path(task: Task, folder: Path) -> Path:
    return folder / f"{task.key}.json"


def _kept(task: Task, folder: Path) -> Done | None:
    """The result in a task's file, None where there is no file."""
    path = _path(task, folder)
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        schema, computes = document.pop("schema"), document.pop("task")
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}")
        done = Done(**document)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: expected a result of schema {SCHEMA} ({error}); remove it, and it is computed again"
        ) from error
    if computes != json.loads(json.dumps(task.computes)):
        raise UserError(
            f"{path} is the result of another task, {_difference(computes, task.computes)}; name another folder"
        )
    return done


def _difference(kept: dict[str, Any], asked: dict[str, Any]) -> str:
    """What is not alike in two tasks of one key, such as `arguments.seed 1, not 2`."""
    for name in ("function", "arguments", "environment"):
        if kept[name] == asked[name]:
            continue
        if not isinstance(asked[name], dict):
            return f"{name} {kept[name]!r}, not {asked[name]!r}"
        for key in sorted({*kept[name], *asked[name]}):
            if kept[name].get(key) != asked[name].get(key):
                return f"{name}.{key} {kept[name].get(key)!r}, not {asked[name].get(key)!r}"
    return "written otherwise"
