"""Sound traces with something random done to them: to their bytes, their datasets, and every field of their documents.

Each case is made of a seed and its number alone, so that a run goes on where another stopped, and a case that ends
badly can be made again.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  to write into what is compressed
import numpy as np

from tests.hostile import running, sound
from tests.hostile.running import NUM_BYTES, SECONDS, Outcome
from traces.hdf5.unfinished import CHECKSUM_AT, MARK_AT, lookup3

WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2**31, 2**40, 2**63, 10**30, 1.5, float("nan"), float("inf"), "", ".", "x" * 300, "\x1b[2J",
    "[/x]", "\u202e", "../x", "/steps/step", [], {}, [[]], [None], {"": None}, ["a", "a"], [[[[]]]], "nan", -(2**62),
)  # fmt: skip
DOCUMENTS = ("layout", "command", "seeds", "settings", "model_config", "environment/reference", "checksums")
DTYPES = ("i1", "<i4", "<i8", ">i8", "<u8", "<f4", "<f8", "S3", "<c8", "V5", "<f2")
COMMANDS_EACH = 4


def cut_and_flipped(source: Path, path: Path, pick: random.Random) -> str:
    """Some bytes are others, are missing, or too many."""
    content = bytearray(source.read_bytes())
    done = pick.choice(("flip", "flip", "flip", "fill", "cut", "drop", "insert", "swap"))
    at, length = pick.randrange(len(content)), pick.choice((1, 2, 8, 100, 5000))
    if done == "flip":
        for _ in range(pick.choice((1, 1, 4, 64))):
            content[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
    elif done == "fill":
        content[at : at + length] = bytes([pick.choice((0, 255, 127))]) * len(content[at : at + length])
    elif done == "cut":
        del content[at:]
    elif done == "drop":
        del content[at : at + length]
    elif done == "insert":
        content[at:at] = pick.randbytes(length)
    else:
        other = pick.randrange(len(content))
        content[at : at + length], content[other : other + length] = (
            content[other : other + length],
            content[at : at + length],
        )
    path.write_bytes(content)
    return done


def metadata_with_right_checksums(source: Path, path: Path, pick: random.Random) -> str:
    """A byte of an object's header is another, and its checksum is that of the other."""
    content = bytearray(source.read_bytes())
    ends = {at: end for at in _places(content, b"OHDR") if (end := _end_of_header(content, at)) is not None}
    for at in pick.sample(list(ends), pick.choice((1, 1, 3))):
        changed = pick.randrange(at + 6, ends[at])
        content[changed] = pick.choice((0, 1, 255, content[changed] ^ (1 << pick.randrange(8))))
        struct.pack_into("<I", content, ends[at], lookup3(bytes(content[at : ends[at]])))
    path.write_bytes(content)
    return "header"


def _places(content: bytearray, word: bytes) -> Iterator[int]:
    at = content.find(word)
    while at >= 0:
        yield at
        at = content.find(word, at + 1)


def _end_of_header(content: bytearray, at: int) -> int | None:
    """Where the checksum of an object header of version 2 stands (HDF5 File Format Specification, IV.A.1.b)."""
    if content[at + 4] != 2:
        return None
    flags, position = content[at + 5], at + 6
    position += 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    size = int.from_bytes(content[position : position + width], "little")
    end = position + width + size
    if end + 4 > len(content) or struct.unpack_from("<I", content, end)[0] != lookup3(bytes(content[at:end])):
        return None
    return end


def a_field_of_another_kind(source: Path, path: Path, pick: random.Random) -> str:
    """A field of a document, or the report, is of any kind."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        name = pick.choice((*DOCUMENTS, "report"))
        if name == "report":
            document = sound.report()
        else:
            document = json.loads(file[name][()])
        for _ in range(pick.choice((1, 1, 2))):
            document = _changed(document, pick)
        text = json.dumps(document).encode()
        if name == "report":
            file["reports/bytes"].resize(len(text), axis=0)
            file["reports/bytes"][:] = np.frombuffer(text, np.uint8)
            file["reports/stop"][0] = len(text)
        else:
            del file[name]
            file[name] = np.array(text, h5py.string_dtype("utf-8", len(text)))
    return name


def _changed(document: Any, pick: random.Random) -> Any:
    """With one value, anywhere in it, replaced, left out or named otherwise."""
    places = list(_all_places(document, ()))
    place = pick.choice(places)
    wrong = pick.choice(WRONG)
    if not place:
        return wrong
    above = document
    for key in place[:-1]:
        above = above[key]
    done = pick.choice(("replace", "replace", "replace", "remove", "rename", "repeat"))
    if done == "remove":
        del above[place[-1]]
    elif done == "rename" and isinstance(above, dict):
        above[str(wrong)] = above.pop(place[-1])
    elif done == "repeat" and isinstance(above, list):
        above.append(above[place[-1]])
    else:
        above[place[-1]] = wrong
    return document


def _all_places(document: Any, place: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
    yield place
    if isinstance(document, dict):
        for key, value in document.items():
            yield from _all_places(value, (*place, key))
    elif isinstance(document, list):
        for index, value in enumerate(document):
            yield from _all_places(value, (*place, index))


def a_dataset_of_another_kind(source: Path, path: Path, pick: random.Random) -> str:
    """A dataset or group is another, of another shape, elsewhere, or gone; or holds other values."""
    path.write_bytes(source.read_bytes())
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(pick.choice((1, 1, 2))):
            name = pick.choice([each for each in names if _is_in(file, each)])
            done = pick.choice(list(_CHANGES))
            _CHANGES[done](file, name, pick)
    return done


def _is_in(file: h5py.File, name: str) -> bool:
    try:
        return name in file
    except RuntimeError:  # a link of an earlier change leads to itself
        return False


def _other_values(file: h5py.File, name: str, pick: random.Random) -> None:
    dataset = file[name]
    if not isinstance(dataset, h5py.Dataset) or not dataset.size:
        return
    if dataset.dtype.kind in "iuf":
        value = pick.choice((0, -1, 1, 1 << 20, 1 << 62, 255, 3))
        values = dataset[()] if dataset.shape else np.asarray(dataset[()])
        values = np.array(values)
        values.reshape(-1)[pick.randrange(values.size)] = np.array(value).astype(values.dtype)
        dataset[()] = values
    elif dataset.dtype.kind == "S" and dataset.shape:
        dataset[pick.randrange(len(dataset))] = pick.choice((b"", b"\xff", b"\x1b[2J", b"x" * 256, b"divergence"))


def _removed(file: h5py.File, name: str, pick: random.Random) -> None:
    del file[name]


def _resized(file: h5py.File, name: str, pick: random.Random) -> None:
    dataset = file[name]
    if isinstance(dataset, h5py.Dataset) and dataset.chunks:
        dataset.resize(pick.choice((0, 1, 3, 1000, 1 << 40)), axis=0)


def _another(file: h5py.File, name: str, pick: random.Random) -> None:
    old = file[name]
    shape = pick.choice([(), (1,), (0,), (2, 2), (5,), getattr(old, "shape", None) or (3,)])
    dtype = pick.choice((*DTYPES, getattr(old, "dtype", "<i8")))
    growing = {"maxshape": (None, *shape[1:])} if shape and pick.random() < 0.7 else {}
    del file[name]
    file.create_dataset(name, shape=shape, dtype=dtype, **growing)


def _a_link(file: h5py.File, name: str, pick: random.Random) -> None:
    links = (h5py.SoftLink("/steps"), h5py.SoftLink(f"/{name}"), h5py.ExternalLink("/dev/zero", "/"))
    link = pick.choice(links)
    del file[name]
    file[name] = link


def _a_group(file: h5py.File, name: str, pick: random.Random) -> None:
    del file[name]
    file.create_group(name)


def _elsewhere(file: h5py.File, name: str, pick: random.Random) -> None:
    names: list[str] = []
    file.visit(names.append)
    other = pick.choice(names)
    if not other.startswith(name) and not name.startswith(other):
        del file[name]
        file[name] = file[other]


def _an_attribute(file: h5py.File, name: str, pick: random.Random) -> None:
    of = pick.choice((file, file[name]))
    key = pick.choice([*of.attrs] or ["x"])
    value = pick.choice(
        ("", "x" * 5000, 1, 1.5, np.arange(9), b"\xff", "\x1b[2J", "lockstep-trace/1", "lockstep-trace/99")
    )
    of.attrs.create(key, value)


_CHANGES: dict[str, Callable[[h5py.File, str, random.Random], None]] = {
    "values": _other_values, "values, too": _other_values, "removed": _removed, "resized": _resized,
    "another": _another, "link": _a_link, "group": _a_group, "elsewhere": _elsewhere, "attribute": _an_attribute,
}  # fmt: skip

Mutate = Callable[[Path, Path, random.Random], str]
KINDS: dict[str, Mutate] = {
    "bytes": cut_and_flipped,
    "headers": metadata_with_right_checksums,
    "fields": a_field_of_another_kind,
    "datasets": a_dataset_of_another_kind,
}


@dataclass
class Fuzzed:
    """What came of the cases so far: how often each kind ended with which exit code, and what ended badly."""

    seed: int
    next_case: int = 0
    codes: dict[str, dict[str, int]] = field(default_factory=dict)
    bad: list[dict[str, Any]] = field(default_factory=list)

    def add(self, number: int, kind: str, outcome: Outcome) -> None:
        of_kind = self.codes.setdefault(kind, {})
        code = "too long" if outcome.code is None else str(outcome.code)
        of_kind[code] = of_kind.get(code, 0) + 1
        problem = problem_of(outcome)
        if problem:
            said = [*outcome.err.strip().splitlines(), ""][-2 if outcome.err.strip() else -1]
            self.bad.append({"case": number, "kind": kind, "command": outcome.command, "what": problem, "said": said})


def problem_of(outcome: Outcome) -> str:
    """What is wrong with how a command ended; empty if nothing is."""
    if outcome.code not in (0, 1, 2):
        return f"exit {outcome.code}"
    if outcome.seconds > SECONDS or outcome.num_bytes > NUM_BYTES:
        return f"{outcome.seconds:.0f} s, {outcome.num_bytes >> 20} MiB"
    if outcome.err.count("\n") != (outcome.code == 2):
        return "not one line on stderr"
    return "a control character" if any(c in outcome.out + outcome.err for c in "\x1b\x9b\x07\u202e") else ""


class Fuzzer:
    """Makes the cases in a folder, and runs some commands on each."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.calls = running.mains()
        self.sources = [sound.write(folder / "sound.h5"), _portable(folder), _unfinished(folder)]
        (folder / "out").mkdir(exist_ok=True)

    def run(self, number: int) -> tuple[str, list[Outcome]]:
        """One case: its kind, and how each command ended."""
        pick = random.Random(f"{self.seed}/{number}")
        kind = list(KINDS)[number % len(KINDS)]
        path = self.folder / "case.h5"
        sources = self.sources if kind in ("bytes", "headers") else self.sources[:2]
        KINDS[kind](pick.choice(sources), path, pick)
        lines = running.commands(path, self.sources[0], self.folder / "out")
        names = ["verify", *pick.sample([name for name in lines if name != "verify"], COMMANDS_EACH - 1)]
        return kind, [running.run(name, lines[name], self.calls[lines[name][0]]) for name in names]


def _portable(folder: Path) -> Path:
    return sound.write(folder / "portable.h5", portable=True)


def _unfinished(folder: Path) -> Path:
    """As a kill leaves it."""
    content = bytearray(sound.write(folder / "killed.h5").read_bytes())
    content[MARK_AT] = 5
    struct.pack_into("<I", content, CHECKSUM_AT, lookup3(bytes(content[:CHECKSUM_AT])))
    (folder / "killed.h5").write_bytes(content)
    return folder / "killed.h5"
