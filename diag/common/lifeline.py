"""A process that ends when whoever started it is gone, however they ended.

The starter gives it a pipe for its standard input, writes nothing, and holds the other end: the system closes that
with the starter, by SIGKILL too, on Linux and on macOS alike.
"""

from __future__ import annotations

import os
import signal
import stat
import threading

STDIN = 0
ORPHANED = 1  # exit code, which nobody is left to read


def end_with_starter(leads_group: bool = False) -> None:
    """From now on; only where standard input is a pipe.

    leads_group: the process was started as the first of a group, which ends with it: all that it has started.
    """
    if stat.S_ISFIFO(os.fstat(STDIN).st_mode):
        threading.Thread(target=_end_after_input, args=(leads_group,), name="lifeline", daemon=True).start()


def _end_after_input(leads_group: bool) -> None:
    while os.read(STDIN, 4096):
        pass
    if leads_group and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(ORPHANED)  # at once: the other threads may be in a computation of minutes
