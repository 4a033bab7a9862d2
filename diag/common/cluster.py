"""A sweep's tasks on the workers of a Dask cluster that somebody has started.

A worker waits for the task's process as a thread does here (diag/common/task.py); results come back through Dask, and
whoever asked writes them.  A worker that dies has its tasks run by another; when one has taken several with it, that is
its result.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import diag
from diag.common.streams import say
from diag.common.task import Done, Task, Unwanted, run_task
from diag.common.wording import counted, type_and_message
from diag.errors import UserError

if TYPE_CHECKING:
    from distributed import Client, Future

TIMEOUT = 10.0
"""Seconds that a scheduler has to answer in."""
PAUSE = 0.1
"""Seconds between two looks for results."""
BETWEEN_WORKERS = 5.0
"""Seconds between two looks at which workers there are."""
GONE = 60.0
"""Seconds until a worker that is no longer there, and that a task is bound to, does not come back."""
ENDED = ("closing", "closed", "stopping", "failed")
"""What a worker is that brings no task to its end (distributed.Status)."""
STARTED = "start one: dask worker {address} --nthreads 1"


def on_cluster(tasks: Sequence[Task], address: str) -> Iterator[tuple[Task, Done]]:
    """The tasks with their results, as they come.  Closing this ends those that run.

    Raises UserError: no scheduler answers, no worker has what a task needs, or one has another version of this program.
    """
    with connected(address) as client:
        _refuse_unable(tasks, client, address)
        keys = {f"{task.key}-{time.time_ns()}": task for task in tasks}
        futures = [_submitted(client, key, task) for key, task in keys.items()]
        try:
            for future in _as_they_come(client, futures, _Watch(client, address, keys)):
                yield keys[future.key], _done(future, keys[future.key])
        finally:
            client.cancel([future for future in futures if not future.done()])


@contextlib.contextmanager
def connected(address: str) -> Iterator[Client]:
    """A scheduler, whose workers have this program in this version.

    Raises UserError where it is none, does not answer, has no workers or workers that lack the program.
    """
    import asyncio  # as large as all else here

    try:
        from distributed import Client
        from distributed.comm import get_address_host_port
    except ImportError as error:
        raise UserError("--cluster needs Dask: pip install 'tf-lockstep[cluster]', here and on every worker") from error
    try:
        socket.create_connection(get_address_host_port(address), TIMEOUT).close()  # Dask's own try outlives its failing
        client = Client(address, timeout=TIMEOUT, set_as_default=False)
    except (OSError, asyncio.TimeoutError, ValueError) as error:
        raise UserError(
            f"--cluster {address}: no Dask scheduler answers there; expected tcp://HOST:PORT as `dask scheduler` "
            "prints it"
        ) from error
    with client:
        _refuse_unlike(client, address)
        yield client


def worker_names(address: str) -> list[str]:
    """Of all workers that there are now; raises UserError as `connected` does."""
    with connected(address) as client:
        return [str(worker["name"]) for worker in workers_of(client).values()]


def workers_of(client: Client) -> dict[str, Mapping[str, Any]]:
    """What the scheduler knows of each worker, by its address."""
    return dict(client.scheduler_info(n_workers=-1)["workers"])


def version() -> str:
    return diag.__version__


def _refuse_unlike(client: Client, address: str) -> None:
    versions = client.run(version, on_error="return")
    if not versions:
        raise UserError(f"--cluster {address}: the scheduler has no worker; {STARTED.format(address=address)}")
    for worker, found in versions.items():
        if found != version():
            said = type_and_message(found) if isinstance(found, BaseException) else f"version {found}"
            raise UserError(
                f"--cluster {address}: the worker {worker} does not have tf-lockstep {version()} ({said}); install it "
                "there, or have its PYTHONPATH name this checkout"
            )


def _refuse_unable(tasks: Sequence[Task], client: Client, address: str) -> None:
    workers = workers_of(client).values()
    for task in tasks:
        if not any(_can(worker, task) for worker in workers):
            needed = ",".join(f"{name}={number:g}" for name, number in task.resources.items())
            resources = f" --resources {needed}" if needed else ""
            raise UserError(
                f"--cluster {address}: no worker can run {task.key}{f', which needs {needed}' if needed else ''}; "
                f"{STARTED.format(address=address)}{resources}"
            )


def _can(worker: Mapping[str, Any], task: Task) -> bool:
    has_it_all = all(worker["resources"].get(name, 0) >= number for name, number in task.resources.items())
    return has_it_all and task.worker in (None, str(worker["name"]))


def _submitted(client: Client, key: str, task: Task) -> Future:
    workers = None if task.worker is None else [task.worker]
    return client.submit(run_there, task, key=key, resources=dict(task.resources), workers=workers, pure=False)


def run_there(task: Task) -> Done:
    """On a worker, as long as somebody waits for it; where the worker is closing, another takes it over."""
    from distributed import Reschedule, get_worker

    worker = get_worker()
    key = worker.get_current_task()

    def is_wanted() -> bool:
        known = worker.state.tasks.get(key)
        return known is not None and known.state == "executing" and worker.status.name not in ENDED

    try:
        return run_task(task, is_wanted)
    except Unwanted as error:
        raise Reschedule from error


def _as_they_come(client: Client, futures: Sequence[Future], watch: _Watch) -> Iterator[Future]:
    from distributed import as_completed

    coming = as_completed(futures, loop=client.loop)
    while not coming.is_empty():
        finished = coming.next_batch(block=False)
        yield from finished
        if not finished:
            time.sleep(PAUSE)
            watch.look([future for future in futures if not future.done()])


class _Watch:
    """Looks now and then whether there is a worker for what is left to do."""

    def __init__(self, client: Client, address: str, tasks: Mapping[str, Task]) -> None:
        self._client, self._address, self._tasks = client, address, tasks
        self._looked = time.monotonic()
        self._seen: dict[str, float] = {}  # worker -> when it was there
        self._has_said = False

    def look(self, waiting: Sequence[Future]) -> None:
        now = time.monotonic()
        if now < self._looked + BETWEEN_WORKERS:
            return
        self._looked = now
        workers = workers_of(self._client).values()
        self._seen.update((str(worker["name"]), now) for worker in workers)
        for future in waiting:
            name = self._tasks[future.key].worker
            if name is not None and now > self._seen.setdefault(name, now) + GONE:
                future.cancel()  # it comes to its end by that
        if waiting and not self._has_said and not any(_can(w, self._tasks[f.key]) for w in workers for f in waiting):
            self._has_said = True
            tasks = counted(len(waiting), "task")
            say(f"--cluster {self._address}: no worker is left that can run {tasks}; waiting for one")


def _done(future: Future, task: Task) -> Done:
    """What came of it; an error of the cluster, such as a task that ended several workers, is a result too."""
    if future.cancelled():
        return Done(task.key, error=f"its worker {task.worker} is gone", died=True)
    error = future.exception()
    if error is None:
        return future.result()  # type: ignore[no-any-return]
    return Done(task.key, error=type_and_message(error), died=True)
