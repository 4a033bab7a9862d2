"""Ctrl-C and SIGTERM: one line and exit code 130 or 143, whatever is being computed.

While a command runs, the first of them is an exception, `Stopped`.  Where that comes through nowhere, in native code
that goes on or in code that swallows it, a thread ends the process some seconds later.  Before and after that, when
nothing is there to be left in order, it ends at once.  Imports nothing large, so as to be there before what is.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143}
WORDS: dict[int, str] = {signal.SIGINT: "interrupted", signal.SIGTERM: "ended from outside (SIGTERM)"}
GRACE = 5.0
"""Seconds from the signal until a process is ended that does not end by itself."""
CHILD = "diag.common.child"
"""The module of a process whose starter says how it ended."""
STDERR = 2


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.  Of a plain KeyboardInterrupt that once passed through `exec` of a text, as a dataclass or an
    import makes it, Python remembers that it did, and ends by SIGINT whatever the exit code is.
    """


class Stopping:
    """Signals taken in hand, as a context manager; elsewhere than in the main thread it does nothing.

    name: of the command, and `left`: what it leaves, for its line.  raises: `Stopped` in the main thread, and
    an end after `GRACE`; else the signal is only noted.
    """

    def __init__(self, name: str, left: str = "", raises: bool = True) -> None:
        self.number: int | None = None
        self._is_taken = False
        self.name, self._left = name, left
        self._raises = raises
        self._stderr = STDERR
        self._undo = contextlib.ExitStack()

    @property
    def code(self) -> int:
        return CODES[self.number or signal.SIGINT]

    @property
    def word(self) -> str:
        return WORDS[self.number or signal.SIGINT]

    @property
    def line(self) -> str:
        return f"{self.name}: {self.word}" + (f"; {self._left}" if self._left else "")

    def __enter__(self) -> Self:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in CODES:
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # as under nohup: that is to be kept
                self._undo.callback(signal.signal, number, signal.signal(number, self._take))
        if self._raises:
            self._watch()
            for module, name in ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook")):
                self._undo.callback(setattr, module, name, getattr(module, name))
                setattr(module, name, partial(self._tell, getattr(module, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raises = False
        self._undo.close()

    def _take(self, number: int, _: FrameType | None) -> None:
        """Of several only the first: what it began is to be brought to its end.

        The thread that watches may have noted its number already.
        """
        is_first, self._is_taken = not self._is_taken, True
        self.number = self.number or number
        if is_first and self._raises:
            raise Stopped

    def _tell(self, hook: Callable[..., None], *error: Any) -> None:
        """What native code and other threads make of an exception that came to them is no bug to be printed."""
        if self.number is None:
            hook(*error)

    def _watch(self) -> None:
        """Signals write into a pipe at once; another thread reads it, and sees its end when all went well."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        with contextlib.suppress(OSError):  # it is led elsewhere while TensorFlow is imported
            self._stderr = os.dup(STDERR)
            self._undo.callback(os.close, self._stderr)
        self._undo.callback(os.close, writing)
        before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        self._undo.callback(signal.set_wakeup_fd, before)
        threading.Thread(target=self._end_later, args=(reading,), name="stopping", daemon=True).start()

    def _end_later(self, reading: int) -> None:
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            while (read := pipe.read(1)) and read[0] not in CODES:
                pass
            if not read:
                return
            self.number = self.number or read[0]
            while select.select([pipe], [], [], GRACE)[0]:
                if not pipe.read(1):
                    return
        _end("" if _module() == CHILD else self.line, self.code, self._stderr)


def _module() -> str:
    """That `python -m` was given; empty where this process was started otherwise."""
    given = sys.orig_argv
    return given[given.index("-m") + 1] if "-m" in given[:-1] else ""


def end_at_once() -> None:
    """Have these signals end the process in one line, from now on until a command takes them in hand."""
    module = _module()
    name = module.rpartition(".")[2] or os.path.basename(sys.argv[0])

    def end(number: int, _: FrameType | None) -> None:
        _end("" if module == CHILD else f"{name}: {WORDS[number]}", CODES[number])

    for number in CODES:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, end)
    atexit.register(ignore)  # Python's own end puts no handler above the system's, which says nothing


def ignore() -> None:
    """From now on: the command has said how it ended."""
    for number in CODES:
        signal.signal(number, signal.SIG_IGN)


def _end(line: str, code: int, stderr: int = STDERR) -> None:
    if line:
        with contextlib.suppress(OSError):
            os.write(stderr, f"{line}\n".encode(errors="backslashreplace"))
    os._exit(code)
