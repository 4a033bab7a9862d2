"""Two computations at a time, each on a thread."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def both(first: Callable[[], A], second: Callable[[], B]) -> tuple[A, B]:
    """What two calls return that are made at the same time, the first in this thread, the second in one of its own.

    The thread is new: settings that TensorFlow keeps by thread are read afresh.  An error of either is raised when both
    are over.
    """
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second)
        return first(), other.result()
