"""How much memory a process and its children hold, without a library for it."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

PROC = Path("/proc")


def total_bytes() -> int:
    """Of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_bytes(processes: Iterable[int]) -> int:
    """Of some processes; nothing of one that is gone."""
    if not PROC.is_dir():
        sizes = {pid: size for pid, _, size in _listed()}
        return sum(sizes.get(pid, 0) for pid in processes) << 10
    page = os.sysconf("SC_PAGE_SIZE")
    found = 0
    for pid in processes:
        with contextlib.suppress(OSError):
            found += int((PROC / str(pid) / "statm").read_text().split()[1]) * page
    return found


def family_of(process: int) -> list[int]:
    """A process and all that it has started, directly or not."""
    children = defaultdict(list)
    for pid, parent in _parents() if PROC.is_dir() else ((pid, parent) for pid, parent, _ in _listed()):
        children[parent].append(pid)
    family = [process]
    for pid in family:
        family += children[pid]
    return family


def _parents() -> Iterator[tuple[int, int]]:
    for path in PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            yield int(path.parent.name), int(path.read_text(errors="replace").rpartition(")")[2].split()[1])


def _listed() -> list[tuple[int, int, int]]:
    """(process, its parent, KiB) of all: `ps` knows where there is no /proc."""
    command = ["ps", "-axo", "pid=,ppid=,rss="]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [line.split() for line in listed.splitlines()]
    return [(int(pid), int(parent), int(size)) for pid, parent, size in rows]
