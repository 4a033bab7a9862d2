"""Every command that opens a trace, run on one file in a process of its own, with limits of time and memory.

The processes are forked from one that has only imported the commands: a fresh one would take half a second each.
What would load TensorFlow ends there with the word `LET_IN`: the door, and not what lies behind it, is looked at.
"""

from __future__ import annotations

import contextlib
import gc
import io
import json
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diag.errors import UserError

SECONDS, NUM_BYTES = 60, 2 << 30
MARK = "from-here-on"
"""A file touched when all is imported, for whoever watches the system's calls."""
AUDITED = ("open", "socket.__new__", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.exec", "os.system")
OPENED: list[str] = []
LET_IN = "let in: here TensorFlow would be loaded"


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, minus a signal's number, or None past the limit of time."""

    command: str
    code: int | None
    out: str
    err: str
    seconds: float
    num_bytes: int
    opened: list[str]
    """What Python opened: paths, and sockets and programs by what they are."""


def commands(path: Path, other: Path, out: Path) -> dict[str, list[str]]:
    """Command lines by what they are called; the first word is the module."""
    file, to = str(path), str(out)
    return {
        "ls": ["traces", "ls", file],
        "ls --all": ["traces", "ls", file, "--all", "--json"],
        "show": ["traces", "show", file, "activations/*", "--steps", "*"],
        "show ops": ["traces", "show", file, "ops"],
        "show --op": ["traces", "show", file, "--op", "7"],
        "diff": ["traces", "diff", file],
        "diff --other": ["traces", "diff", str(other), "--other", file],
        "export": ["traces", "export", file, "--to", f"{to}/x.npz", "--force"],
        "export units": ["traces", "export", file, "--to", f"{to}/x.csv", "--table", "units", "--force"],
        "verify": ["traces", "verify", file],
        "pack": ["traces", "pack", file, "-o", f"{to}/packed.h5", "--force"],
        "pack --anonymous": ["traces", "pack", file, "--step", "0", "-o", f"{to}/packed.h5", "--force", "--anonymous"],
        "replay": ["diag.replay", file, "--step", "0"],
        "compare": ["diag.compare", str(other), file],
        "attribute": ["diag.attribute", file],
        "lockstep": ["diag.lockstep", "--reference", f"trace:{file}", "--candidate", "CPU:0", "--out", f"{to}/run"],
    }


def mains() -> dict[str, Callable[[Sequence[str]], int]]:
    """The commands' own functions, which stop where TensorFlow would be loaded."""
    from diag import attribute, compare, lockstep, replay
    from diag.machine import tensorflow_import
    from traces import __main__ as traces

    for module in (attribute, compare, tensorflow_import):
        module.import_tensorflow = _let_in  # type: ignore[attr-defined]
    gc.freeze()  # no page of what is imported is copied only because a child collects its garbage
    return {
        "traces": traces.main,
        "diag.replay": replay.main,
        "diag.compare": compare.main,
        "diag.attribute": attribute.main,
        "diag.lockstep": lockstep.main,
    }


def _let_in(*_: object) -> None:
    raise UserError(LET_IN)


def run(name: str, line: Sequence[str], call: Callable[[Sequence[str]], int]) -> Outcome:
    """One command in a forked process, and how it ended."""
    begun = time.monotonic()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _end(_run_here(line, call), writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        told = _read_until(pipe.fileno(), begun + SECONDS + 5)
    if told is None:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    code: int | None = os.waitstatus_to_exitcode(status)
    said: dict[str, Any] = {"out": "", "err": "", "opened": []}
    with contextlib.suppress(ValueError):
        said = json.loads(told or b"")
        code = said["code"]
    if code in (-signal.SIGKILL, -signal.SIGXCPU):
        code = None
    return Outcome(
        name, code, said["out"], said["err"], time.monotonic() - begun, usage.ru_maxrss << 10, said["opened"]
    )


def _read_until(pipe: int, deadline: float) -> bytes | None:
    """All that comes through a pipe; None where it is not closed in time."""
    import select

    found = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([pipe], [], [], left)[0]:
            part = os.read(pipe, 1 << 16)
            if not part:
                return found
            found += part
    return None


def _run_here(line: Sequence[str], call: Callable[[Sequence[str]], int]) -> dict[str, Any]:
    OPENED.clear()
    out, err = io.StringIO(), io.StringIO()
    resource.setrlimit(resource.RLIMIT_AS, (NUM_BYTES, NUM_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code: object = call(list(line[1:]))
        except SystemExit as ended:
            code = ended.code
        except BaseException:
            traceback.print_exc()
            code = 3
    return {
        "opened": sorted(set(OPENED)),
        "code": code,
        "out": out.getvalue()[-200_000:],
        "err": err.getvalue()[-20_000:],
    }


def _audited(event: str, of: tuple[Any, ...]) -> str:
    return os.fsdecode(of[0]) if event == "open" and isinstance(of[0], (str, bytes)) else f"{event} {of[0]}"


def _end(said: dict[str, Any], pipe: int) -> None:
    with os.fdopen(pipe, "wb") as file:
        file.write(json.dumps(said).encode())
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """`FOLDER OUT [EVERY]`: commands on all files of a folder against its sound one, a line of JSON for each outcome.

    With EVERY, each file meets `ls`, `verify` and every so manieth of the others, by turns.
    """
    folder, out = map(Path, arguments[:2])
    every = int(arguments[2]) if len(arguments) > 2 else 1
    calls = mains()
    sys.addaudithook(lambda event, of: OPENED.append(_audited(event, of)) if event in AUDITED else None)
    (out / MARK).touch()
    for turn, path in enumerate(sorted(folder.glob("*.h5"))):
        for number, (name, line) in enumerate(commands(path, folder / "sound.trace", out).items()):
            if name not in ("ls", "verify") and (turn + number) % every:
                continue
            outcome = run(name, line, calls[line[0]])
            print(json.dumps({"file": path.stem, **vars(outcome)}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
