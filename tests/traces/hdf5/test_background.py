"""Nothing waits beyond the limit, nothing is dropped, nothing fails in silence."""

from __future__ import annotations

import threading
import time

import pytest

from diag.errors import UserError
from traces.hdf5.background import BackgroundQueue


def test_tasks_are_all_done_in_order() -> None:
    done: list[int] = []
    queue = BackgroundQueue(limit=10)
    for number in range(100):
        queue.put(3, lambda number=number: done.append(number))
    queue.close()
    assert done == list(range(100))
    assert not queue.is_stuck


def test_a_caller_waits_while_too_much_waits() -> None:
    gate, started = threading.Event(), threading.Event()
    queue = BackgroundQueue(limit=10)
    queue.put(6, lambda: (started.set(), gate.wait())[0])
    started.wait()
    waiting = threading.Thread(target=lambda: queue.put(5, lambda: None))  # 6 at work, 5 more: 11
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    gate.set()
    waiting.join(5)
    assert not waiting.is_alive()
    queue.close()


def test_a_task_beyond_the_limit_is_let_in_alone() -> None:
    done: list[str] = []
    queue = BackgroundQueue(limit=10)
    queue.put(1, lambda: (time.sleep(0.02), done.append("small"))[1])
    queue.put(1000, lambda: done.append("large"))
    queue.close()
    assert done == ["small", "large"]


def test_a_failure_is_raised_at_every_later_call() -> None:
    def fail() -> None:
        raise OSError("the disk is gone")

    queue = BackgroundQueue(limit=10)
    queue.put(1, fail)
    for call in (queue.drain, lambda: queue.put(1, lambda: None), queue.close):
        with pytest.raises(OSError, match="the disk is gone"):
            call()


def test_a_failure_wakes_a_waiting_caller() -> None:
    gate = threading.Event()

    def fail() -> None:
        gate.wait()
        raise OSError("the disk is gone")

    queue = BackgroundQueue(limit=10)
    queue.put(10, fail)
    threading.Timer(0.05, gate.set).start()
    with pytest.raises(OSError, match="the disk is gone"):
        queue.put(10, lambda: None)


def test_a_hung_disk_is_not_waited_for_forever() -> None:
    gate = threading.Event()
    queue = BackgroundQueue(limit=10, stall_seconds=0.05)
    queue.put(10, gate.wait)
    with pytest.raises(UserError, match="has written nothing for"):
        queue.put(10, lambda: None)
    with pytest.raises(UserError, match="has written nothing for"):
        queue.close()
    assert queue.is_stuck
    gate.set()


def test_a_closed_queue_takes_nothing() -> None:
    queue = BackgroundQueue(limit=10)
    queue.close()
    with pytest.raises(ValueError, match="closed"):
        queue.put(1, lambda: None)
