"""One run among many: a function in a process of its own, whose result is one line of JSON.

    python -m diag.common.task PIPE PIPE    # what the process is; nobody types it

TensorFlow reads its switches when it is loaded, so a task's environment is there before its process begins; tasks that
say so share one, if their environments are alike.  A process that dies is begun again; when it has died too often, that
is the result.  It ends with whoever started it.
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
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import IO, Any

import xxhash

from diag.common.child import PAUSE, environment_of_children, how_ended
from diag.common.jsonable import json_safe
from diag.common.lifeline import end_with_starter
from diag.common.wording import type_and_message
from diag.errors import UserError

RETRIES = 2
"""How often a task is begun again whose process died."""
ENDING = 5.0
"""Seconds that a process has to end in when nothing more is asked of it."""
IDLE = 60.0
"""Seconds that a process waits for its next task."""
MOST_SHARED = 24
"""Tasks of one process: what Keras and TensorFlow keep of models that are gone grows."""
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
    shares_process: whether it may run in a process that has run others before.
    limit: seconds until its process is ended, None for none.
    worker: the name or address of the only worker of a cluster that may run it.

    Raises ValueError where the key is no such name.
    """

    key: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Mapping[str, float] = field(default_factory=dict)
    shares_process: bool = False
    limit: float | None = None
    worker: str | None = None

    def __post_init__(self) -> None:
        if not _KEY.fullmatch(self.key) or len(self.key) > LONGEST_KEY:
            raise ValueError(f"Expected a key that can name a file, {_KEY.pattern}. Received: key={self.key!r}")

    @property
    def computes(self) -> dict[str, Any]:
        """All that its result depends on."""
        return {"function": self.function, "arguments": dict(self.arguments), "environment": dict(self.environment)}


def key_of(text: str) -> str:
    """A key out of any text; of a long one its end, after a digest."""
    key = re.sub(r"[^\w.+=,@-]+", "_", text, flags=re.ASCII).lstrip(".+=,@-") or "_"
    return key if len(key) <= LONGEST_KEY else f"{xxhash.xxh3_64_hexdigest(text.encode())}_{key[-LONGEST_KEY // 2 :]}"


@dataclass(frozen=True)
class Done:
    """What became of a task: `value`, or `error`, one line that says why there is none.

    details: the traceback of an error, or the last that a dead process printed.
    seconds: to its result, from the start of its process, the last one, unless that was there already.
    num_bytes: of the value as JSON.
    died: whether no process lived to its result.
    attempts: processes that were begun for it.
    host: of the machine that it ran on.
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
    done = _attempt(task, is_wanted)
    while done.died and done.attempts <= RETRIES:
        done = replace(_attempt(task, is_wanted), attempts=done.attempts + 1)
    return done


def _attempt(task: Task, is_wanted: Callable[[], bool]) -> Done:
    """What comes of it in one process; one that goes on is kept for the next task of this thread that it fits."""
    kept: Process | None = getattr(_of_thread, "process", None)
    _of_thread.process = None
    process = kept if kept is not None and kept.fits(task) else None
    if process is None:
        if kept is not None:
            kept.close()  # it may have a GPU's memory
        process = Process(task.environment)
    begun = time.monotonic()
    try:
        said = process.said_of(task, is_wanted)
    except BaseException:
        process.end()
        raise
    seconds = round(time.monotonic() - begun, 3)
    if not process.is_alive:
        process.end()
    elif task.shares_process:
        _of_thread.process = process
    else:
        process.close()
    num_bytes = len(json.dumps(said["value"])) if "value" in said else 0
    return Done(task.key, **said, seconds=seconds, num_bytes=num_bytes, host=socket.gethostname())


_of_thread = threading.local()  # the process that is kept


class Process:
    """A Python that calls one function after the other; it ends with this object, with what it started."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = dict(environment)
        self._used, self._num_tasks = time.monotonic(), 0
        self._printed = tempfile.TemporaryFile()  # noqa: SIM115  as long as the process lives
        tasks, told = os.pipe()
        said, results = os.pipe()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(tasks), str(results)],
            stdin=subprocess.PIPE,  # its lifeline
            stdout=self._printed,
            stderr=self._printed,
            pass_fds=[tasks, results],
            env={**environment_of_children(), **environment},
            start_new_session=True,  # Ctrl-C is for the sweep, which ends it; and it is ended with all that it started
        )
        os.close(tasks)
        os.close(results)
        self._tasks, self._results = os.fdopen(told, "wb"), os.fdopen(said, "rb", buffering=0)
        self.end = weakref.finalize(self, _end, self._process, self._tasks, self._results, self._printed)
        self.is_alive = True

    def fits(self, task: Task) -> bool:
        """Whether a task may share it."""
        if self._num_tasks >= MOST_SHARED:
            return False
        is_waiting = time.monotonic() - self._used < IDLE / 2 and self._process.poll() is None
        return is_waiting and task.shares_process and dict(task.environment) == self._environment

    def said_of(self, task: Task, is_wanted: Callable[[], bool]) -> dict[str, Any]:
        """Of the fields of Done those of its outcome.

        Raises Unwanted.
        """
        with contextlib.suppress(BrokenPipeError):
            self._tasks.write(json.dumps([task.function, dict(task.arguments)]).encode() + b"\n")
            self._tasks.flush()
        line, is_in_time = self._line(task, is_wanted)
        self._used = time.monotonic()
        self._num_tasks += 1
        if line.endswith(b"\n"):
            return json.loads(line)  # type: ignore[no-any-return]
        self.is_alive = False
        if not is_in_time:
            return {"error": f"it was not done within {task.limit:,.0f} s, and was ended"}
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PAUSE)
        error = f"its process ended ({how_ended(self._process.returncode)}) before it had a result"
        return {"error": error, "died": True, "details": self._last_words()}

    def close(self) -> None:
        """Have it end by itself, if it does so at once."""
        with contextlib.suppress(subprocess.TimeoutExpired, BrokenPipeError):
            self._tasks.close()
            self._process.wait(ENDING)
        self.end()

    def _line(self, task: Task, is_wanted: Callable[[], bool]) -> tuple[bytes, bool]:
        """All that comes out of the process up to a line's end, or its own; and whether that was in time."""
        begun, read = time.monotonic(), b""
        while not read.endswith(b"\n"):
            if not is_wanted():
                raise Unwanted(task.key)
            if task.limit is not None and time.monotonic() - begun > task.limit:
                return read, False
            if select.select([self._results], [], [], PAUSE)[0]:
                part = self._results.read(1 << 16)
                if not part:
                    break
                read += part
        return read, True

    def _last_words(self) -> str:
        self._printed.seek(max(0, self._printed.seek(0, os.SEEK_END) - LAST_WORDS))
        return self._printed.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes], *files: IO[bytes]) -> None:
    """A process and what it has started, and close what it was spoken to by."""
    with contextlib.suppress(ProcessLookupError, PermissionError):  # none of them is left
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.__exit__(None, None, None)
    for file in files:
        with contextlib.suppress(BrokenPipeError):
            file.close()


# -- the process -----------------------------------------------------------------------------------


def main(arguments: Sequence[str]) -> int:
    tasks, results = map(int, arguments)
    for pipe in (tasks, results):
        os.set_inheritable(pipe, False)
    end_with_starter(leads_group=True)
    with os.fdopen(tasks, encoding="utf-8") as given, os.fdopen(results, "w", encoding="utf-8") as file:
        while select.select([given], [], [], IDLE)[0] and (line := given.readline()):
            print(json.dumps(_called(*json.loads(line)), allow_nan=False), file=file, flush=True)
    return 0


def _called(function: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """What comes of a call, as fields of Done."""
    try:
        return {"value": json_safe(pkgutil.resolve_name(function)(**arguments))}
    except UserError as error:
        return {"error": str(error)}
    except (Exception, SystemExit) as error:
        return {"error": type_and_message(error), "details": traceback.format_exc()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
