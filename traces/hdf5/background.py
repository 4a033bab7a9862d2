"""One thread that does handed-over work in order, with no more than so many bytes waiting."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from diag.errors import UserError

STALL_SECONDS = 600.0
"""A disk that takes this long over one record is stuck: a hung network mount, not a slow disk."""


class BackgroundQueue:
    """Runs tasks in another thread. A task's exception is raised again in the caller, at its next call.

    Args:
      limit: bytes that may wait. A larger task is let in when nothing else waits.
      stall_seconds: how long a caller waits with no task getting done before `UserError`.
    """

    def __init__(self, limit: int, stall_seconds: float = STALL_SECONDS) -> None:
        self._limit = limit
        self._stall_seconds = stall_seconds
        self._changed = threading.Condition()
        self._tasks: deque[tuple[int, Callable[[], None]]] = deque()
        self._bytes = 0  # of the tasks that wait and of the one at work
        self._num_pending = 0
        self._num_done = 0
        self._closing = False
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="trace-writer", daemon=True)
        self._thread.start()

    def put(self, num_bytes: int, task: Callable[[], None]) -> None:
        """Hand a task over; waits for room."""
        with self._changed:
            self._wait_until(lambda: not self._num_pending or self._bytes + num_bytes <= self._limit)
            if self._closing:
                raise ValueError("The trace is closed.")
            self._tasks.append((num_bytes, task))
            self._bytes += num_bytes
            self._num_pending += 1
            self._changed.notify_all()

    def drain(self) -> None:
        """Wait until all that was handed over is done."""
        with self._changed:
            self._wait_until(lambda: not self._num_pending)

    def close(self) -> None:
        """Do what is left, and end the thread."""
        try:
            self.drain()
        finally:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join(timeout=1.0)  # it has nothing left to do, or it is stuck

    @property
    def is_stuck(self) -> bool:
        """After `close`: the thread hangs in a task, and holds what that task holds."""
        return self._thread.is_alive()

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        while self._failure is None and not ready():
            num_done = self._num_done
            if not self._changed.wait(self._stall_seconds) and self._num_done == num_done:
                raise UserError(
                    f"The trace's disk has written nothing for {self._stall_seconds:.0f} s; "
                    "expected a disk that answers; choose another output folder."
                )
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._tasks or self._closing)
                if not self._tasks:
                    return
                num_bytes, task = self._tasks.popleft()
            try:
                task()
            except BaseException as failure:  # whatever it is, the caller must hear of it
                self._end(failure)
                return
            with self._changed:
                del task  # its arrays are free before the next waiter is let in
                self._bytes -= num_bytes
                self._num_pending -= 1
                self._num_done += 1
                self._changed.notify_all()

    def _end(self, failure: BaseException) -> None:
        with self._changed:
            self._failure = failure
            self._tasks.clear()
            self._changed.notify_all()
