"""What commands open when they are given the hostile traces, as Python and as the system sees it.

    python -m tests.hostile.watched [--every N]

Each command runs as a person would run it, in a folder of its own.  A hook of Python's audit events in every process,
children too, writes what Python opens; `strace` writes what C libraries do.  All is counted by class.  Exit code 1:
something was opened that is neither the trace, the output folder, the installation nor the system's own, or connected.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.hostile import corpus, graphs, sound

ROOT = Path(__file__).parents[2]
SECONDS = 300
OF_ETC = ("/etc/ld.so", "/etc/localtime")
OTHER, CONNECTION = "something else", "a connection, or a name looked up"
BOUND = "a socket that urllib3 binds to ::1 when it is imported"
MADE_AT_IMPORT = ("socket.__new__", "socket.bind", "socket")
HOOK = """
import os, sys
_log = os.open(os.environ["AUDITED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
def _hook(event, given):
    if event == "open" and isinstance(given[0], (str, bytes)):
        os.write(_log, b"open " + os.fsencode(given[0]).replace(b"\\n", b"\\\\n") + b"\\n")
    elif event.startswith("socket.") or event in ("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"):
        os.write(_log, f"{event} {given[0] if given else ''}\\n".encode())
sys.addaudithook(_hook)
"""
CALLS = re.compile(r"(?:^\d+ +)?(open|openat|openat2|creat|execve|socket|connect)\((.*)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True)
class Watched:
    """One command on one file: its exit code, and what it opened, as (who saw it, class, path)."""

    code: int
    opened: Counter[tuple[str, str, str]]


def commands(path: Path, other: Path) -> list[list[str]]:
    """To list, verify, compare, replay; `other` is a sound trace of the same kind."""
    file = str(path)
    return [
        ["traces", "ls", file],
        ["traces", "verify", file],
        ["traces", "diff", str(other), "--other", file],
        ["diag.compare", str(other), file],
        ["diag.replay", file, "--step", "1", "--layer", "b", "--emit", "../out/emitted.py"],
    ]


def watch(command: list[str], folder: Path) -> Watched:
    """Run one in `folder`, which is made."""
    for name in ("hook", "here", "out", "temporary", "home"):
        (folder / name).mkdir(parents=True)
    (folder / "hook/sitecustomize.py").write_text(HOOK)
    variables = {
        **os.environ, "PYTHONPATH": f"{folder / 'hook'}:{ROOT}", "AUDITED": str(folder / "audited"),
        "TMPDIR": str(folder / "temporary"), "HOME": str(folder / "home"), "TF_CPP_MIN_LOG_LEVEL": "3",
    }  # fmt: skip
    line = [sys.executable, "-m", *command]
    strace = shutil.which("strace")
    if strace is not None:
        calls = "trace=open,openat,openat2,creat,execve,socket,connect"
        line = [strace, "-f", "-qq", "--seccomp-bpf", "-s", "4096", "-e", calls, "-o", str(folder / "calls"), *line]
    done = subprocess.run(line, cwd=folder / "here", env=variables, capture_output=True, text=True, timeout=SECONDS)
    named = {word for word in command if word.endswith((".h5", ".trace"))}
    return Watched(done.returncode, Counter(_opened(folder, named)))


def _opened(folder: Path, named: set[str]) -> Iterator[tuple[str, str, str]]:
    for line in (folder / "audited").read_text(errors="replace").splitlines():
        what, _, path = line.partition(" ")
        yield "Python", _class_of_socket(what) or _class_of(path, folder, named), path
    calls = folder / "calls"
    for line in calls.read_text(errors="replace").splitlines() if calls.exists() else ():
        if (found := CALLS.match(line)) is None:
            continue
        if kind := _class_of_socket(found[1]):
            yield "the system", kind, found[2]
        elif quoted := QUOTED.search(found[2]):
            yield "the system", _class_of(quoted[1], folder, named), quoted[1]


def _class_of_socket(event: str) -> str | None:
    """None where the event, or the call, is of no socket."""
    if event in MADE_AT_IMPORT:
        return BOUND
    return CONNECTION if event.startswith(("socket", "connect")) else None


def _class_of(path: str, folder: Path, named: set[str]) -> str:
    if path in named:
        return "the trace"
    if path == "uname" or path.endswith("/uname"):
        return "the program uname, which Python's platform asks when h5py is imported"
    whole = os.path.normpath(folder / "here" / path)
    if whole == str(folder / "here"):
        return "the names in the folder that it is started in"
    if whole in map(os.path.normpath, [str(ROOT), *sys.path]):
        return "the names in a folder of Python's path"
    classes: Mapping[str, tuple[str, ...]] = {
        "the output folder": (str(folder / "out"),),
        "a temporary folder of its own": (str(folder / "temporary"),),
        "Keras's settings of the person": (str(folder / "home/.keras"),),
        "kernels that TensorFlow looks for, refused where there are some": (
            str(folder / "here/diag.common.child/tensorflow/core/kernels"),
        ),
        "the audit's own": (str(folder / "hook"), str(folder / "audited")),
        "Python, its packages and this program": (
            sys.prefix, sys.base_prefix, str(ROOT / "diag"), str(ROOT / "traces"), str(ROOT / "probes"),
        ),
        "the system's libraries": ("/lib", "/usr/lib", "/usr/share/locale", "/usr/share/zoneinfo", *OF_ETC),
        "/proc, /sys, /dev": ("/proc", "/sys", "/dev"),
    }  # fmt: skip
    return next((name for name, prefixes in classes.items() if whole.startswith(prefixes)), OTHER)


def made(folder: Path, every: int) -> list[tuple[Path, Path]]:
    """The traces of both corpora, or every so many of them, each with a sound one to hold it against."""
    folder.mkdir()
    sound.write(folder / "sound.trace")
    shutil.copy(graphs.sound(), folder / "step.trace")
    files = [(path, folder / "sound.trace") for _, path in corpus.written(folder)]
    files += [(graphs.written(each, folder), folder / "step.trace") for each in graphs.CORPUS if each.says is not None]
    return [*files[::every], (folder / "step.trace", folder / "step.trace")]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, help="take each N-th file only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made_in:
        folder = Path(made_in)
        files = made(folder / "traces", options.every)
        tasks = [
            (command, folder / f"{number}-{index}")
            for number, (path, other) in enumerate(files)
            for index, command in enumerate(commands(path, other))
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            found = list(pool.map(lambda task: _watch_and_forget(*task), tasks))
    return told(len(files), found)


def _watch_and_forget(command: list[str], folder: Path) -> Watched:
    watched = watch(command, folder)
    shutil.rmtree(folder)
    return watched


def told(num_files: int, found: list[Watched]) -> int:
    """Print the counts; 1 where something was opened that should not be."""
    codes = Counter(each.code for each in found)
    print(f"{num_files} traces, {len(found)} commands; by exit code: {dict(sorted(codes.items()))}")
    by_class, others = Counter[tuple[str, str]](), Counter[str]()
    for each in found:
        for (seen_by, kind, path), count in each.opened.items():
            by_class[seen_by, kind] += count
            if kind in (OTHER, CONNECTION):
                others[f"{kind}: {path}"] += count
    print("\n| seen by | opened | times |\n|---|---|---:|")
    for (seen_by, kind), count in sorted(by_class.items()):
        print(f"| {seen_by} | {kind} | {count:,} |")
    print(f"\nconnections: {sum(count for (_, kind), count in by_class.items() if kind == CONNECTION)}")
    for path, count in others.most_common():
        print(f"{count} x {path}")
    return 1 if others else 0


if __name__ == "__main__":
    sys.exit(main())
