"""One run among many: a function in a process of its own, whose result is one line of JSON.

    python -m diag.common.task PIPE TASK    # what the process is; nobody types it

TensorFlow reads its switches when it is loaded, so a task's environment is there before its process begins.  A process
that dies is begun again; when it has died too often, that is the result.  It ends with whoever started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import re
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

from diag.common.child import PAUSE, environment_of_children, how_ended
from diag.common.jsonable import json_safe
from diag.common.lifeline import end_with_starter
from diag.common.wording import type_and_message
from diag.errors import UserError

RETRIES = 2
"""How often a task is begun again whose process died."""
ENDING = 10.0
"""Seconds that a process has to end in when its result is said."""
LAST_WORDS = 2000  # characters of what a process printed, kept where it died
LONGEST_KEY = 200  # characters; a file's name has 255 bytes, and here an ending
_KEY = re.compile(r"\w[\w.+=,@-]*", re.ASCII)


@dataclass(frozen=True)
class Task:
    """One run.

    key: its name among the others, and that of its file: ASCII letters, digits and ``_.+=,@-``.
    function: `package.module:function`, called with `arguments` by name; it returns what JSON can say (`json_safe`:
        NaN and infinities become texts that float() reads).
    arguments: JSON values.
    environment: variables that are set before anything is imported.
    resources: what it takes of a machine, such as {"GPU": 1}.
    limit: seconds until its process is ended, None for none.
    worker: the name or address of the only worker of a cluster that may run it.

    Raises ValueError where the key is no such name.
    """

    key: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    limit: float | None = None
    worker: str | None = None

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key) or len(self.key) > LONGEST_KEY:
            raise ValueError(f"Expected a key that can name a file, {_KEY.pattern}. Received: key={self.key!r}")

    @property
    def computes(self) -> dict[str, Any]:
        """All that its result depends on."""
        return {"function": self.function, "arguments": dict(self.arguments), "environment": dict(self.environment)}


@dataclass(frozen=True)
class Done:
    """What became of a task: `value`, or `error`, one line that says why there is none.

    details: the traceback of an error, or the last that a dead process printed.
    seconds: from the start of its process, the last one, to its result.  num_bytes: of the value as JSON.
    died: whether no process lived to its result.  attempts: processes that were begun for it.  host: of the machine
        that it ran on.
    """

    key: str
    value: Any = None
    error: str | None = None
    details: str = ""
    seconds: float = 0.0
    num_bytes: int = 0
    died: bool = False
    attempts: int = 1
    host: str = ""


class Unwanted(Exception):
    """Nobody waits for the result any more."""


def run_task(task: Task, is_wanted: Callable[[], bool] = lambda: True) -> Done:
    """Run it to its result, in as many processes as that takes.

    Raises Unwanted, some tenths of a second after `is_wanted` says no, with its process ended.
    """
    done = _in_process(task, is_wanted)
    while done.died and done.attempts <= RETRIES:
        done = replace(_in_process(task, is_wanted), attempts=done.attempts + 1)
    return done


def _in_process(task: Task, is_wanted: Callable[[], bool]) -> Done:
    """What comes of it in one process."""
    begun = time.monotonic()
    reading, writing = os.pipe()
    given = json.dumps([task.function, dict(task.arguments)])
    with tempfile.TemporaryFile() as printed:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(writing), given],
            stdin=subprocess.PIPE,  # its lifeline
            stdout=printed,
            stderr=printed,
            pass_fds=[writing],
            env={**environment_of_children(), **task.environment},
            start_new_session=True,  # Ctrl-C is for the sweep, which ends it; and it is ended with all that it started
        )
        os.close(writing)
        try:
            line = _line_of(reading, task, is_wanted)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(ENDING if line.endswith(b"\n") else PAUSE)
        finally:
            _end(process)
            os.close(reading)
        if line.endswith(b"\n"):
            said = json.loads(line)
        elif task.limit is not None and time.monotonic() - begun > task.limit:
            said = {"error": f"it was not done within {task.limit:,.0f} s, and was ended"}
        else:
            error = f"its process ended ({how_ended(process.returncode)}) before it had a result"
            said = {"error": error, "died": True, "details": _last_words(printed)}
    num_bytes = len(json.dumps(said["value"])) if "value" in said else 0
    return Done(
        task.key, **said, seconds=round(time.monotonic() - begun, 3), num_bytes=num_bytes, host=socket.gethostname()
    )


def _line_of(reading: int, task: Task, is_wanted: Callable[[], bool]) -> bytes:
    """All that comes out of a pipe up to a line's end; less, where the pipe or the time ends before."""
    begun, read = time.monotonic(), b""
    while not read.endswith(b"\n"):
        if not is_wanted():
            raise Unwanted(task.key)
        if task.limit is not None and time.monotonic() - begun > task.limit:
            break
        if select.select([reading], [], [], PAUSE)[0]:
            part = os.read(reading, 1 << 16)
            if not part:
                break
            read += part
    return read


def _end(process: subprocess.Popen[bytes]) -> None:
    """A process and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # none of them is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.__exit__(None, None, None)


def _last_words(printed: IO[bytes]) -> str:
    printed.seek(max(0, printed.seek(0, os.SEEK_END) - LAST_WORDS))
    return printed.read().decode(errors="replace").strip()


# -- the process -----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    pipe, given = int(arguments[0]), arguments[1]
    os.set_inheritable(pipe, False)
    end_with_starter(leads_group=True)
    function, named = json.loads(given)
    try:
        said = {"value": json_safe(pkgutil.resolve_name(function)(**named))}
    except UserError as error:
        said = {"error": str(error)}
    except (Exception, SystemExit) as error:
        said = {"error": type_and_message(error), "details": traceback.format_exc()}
    with os.fdopen(pipe, "w", encoding="utf-8") as file:
        print(json.dumps(said, allow_nan=False), file=file)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
