"""A person out of what a trace says in words: paths, the machine's and the user's name, and what else stands there.

Commands and environments are taken by what is known to say nothing of a person; in free text paths and names are
replaced.  One path has one number wherever it stands.
"""

from __future__ import annotations

import getpass
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from diag.errors import UserError
from diag.machine.places import EXECUTIONS, POLICIES, parse_place
from diag.machine.switches import RESTORED

USER, HOST, VALUE = "USER", "HOST", "VALUE"
KEPT_OF_ENVIRONMENT = (
    "place", "stand_in", "simulated", "loss", "judged", "tensorflow", "keras", "numpy", "python", "os", "machine",
    "device", "chip", "execution", "policy", "tf32", "onednn", "soft_placement", "op_determinism", "plugins", "driver",
    "cuda", "cudnn", "rocm", "tensorflow-metal", "tensorflow-cpu", "tensorflow-macos", "tensorflow-rocm",
    "tensorflow-directml-plugin", "intel-extension-for-tensorflow", "tf-nightly", "nvidia-cublas-cu12",
    "nvidia-cudnn-cu12", "nvidia-cuda-runtime-cu12",
)  # fmt: skip
"""What `diag.machine.environment` says of versions, devices and switches; of variables those in `RESTORED` alone."""
OPAQUE_KEYS = ("files", "model", "data", "worst_values", "values")
"""Of a report: where its files lie, what was trained in a person's own words, elements of tensors."""
_SUFFIXES = (
    "py|pyc|npz|npy|keras|h5|hdf5|csv|tsv|ipynb|json|toml|txt|yaml|yml|pkl|pb|png|jpe?g|gif|bmp|so|dylib|dll|pyd|html"
)
_PATH = re.compile(
    rf"""(?:[a-z][a-z0-9+.]*://[^\s'",;)]+              # file:///home/x, gs://bucket/x
    |(?<![\w.])[A-Za-z]:[\\/][^\s'"<>|:*?]+          # of a drive
    |\\\\[^\s'"<>|:*?]+                              # of a share
    |(?<![\w/.~])(?:~\w*|\.{{1,2}})?/[^\s/'",;:)\]][^\s'",;:)\]]*     # absolute, from the home folder, ./ and ../
    |(?<![\w/])[\w.\-]+(?:[\\/][\w.\-]+)*\.(?:{_SUFFIXES})(?![\w]))   # a file by its name
    (?P<function>:[A-Za-z_]\w*)?""",
    re.VERBOSE,
)
_KNOWN_WORDS = frozenset(
    ("python", "-m", "all", "auto", "flagged", "none", "on", "off", "op", "layer", "step", "reference", "candidate",
     "free", *EXECUTIONS, *POLICIES)
)  # fmt: skip
_FLAG = re.compile(r"--[a-z][a-z0-9-]*")
_HARMLESS = re.compile(r"-?[0-9][0-9.,:e+-]*|diag\.[a-z_.]+|op:[0-9]+")
_HOME = re.compile(r"(?:/home/|/Users/|[A-Za-z]:\\Users\\)([^\\/\s'\":]+)")
_SHORTEST_NAME = 2


class Anonymizer:
    """Replaces what tells of a person; `documents` are looked through for the names of home folders."""

    def __init__(self, documents: Sequence[Any] = ()) -> None:
        homes = {name for text in texts_of(documents) for name in _HOME.findall(text)}
        self.names = _names_here() | dict.fromkeys(sorted(homes), USER)
        self._files: dict[str, int] = {}
        self._spaced = sorted(_with_spaces(documents), key=len, reverse=True)

    @cached_property
    def _name(self) -> re.Pattern[str] | None:
        """Any of the names, where it stands by itself."""
        names = sorted(self.names, key=len, reverse=True)
        words = "|".join(map(re.escape, names))
        return re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", re.IGNORECASE) if names else None

    def text(self, text: str) -> str:
        """Free text with its paths and names replaced."""
        for path in self._spaced:
            text = text.replace(path, self.file(path))
        for folder in _folders_here():
            text = text.replace(folder, "/FOLDER")  # one with a space in it too; what follows is found as a path
        return self._without_names(_PATH.sub(self._file, text))

    def file(self, path: str) -> str:
        """What stands for a path, whatever it looks like."""
        return f"FILE_{self._files.setdefault(path, len(self._files) + 1)}" if path else path

    def document(self, value: Any) -> Any:
        """JSON, all its texts; a command, a file and an environment by what they are."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, list):
            return [self.document(each) for each in value]
        if not isinstance(value, Mapping):
            return value
        return {
            _PATH.sub(self._file, key): self._field(key, each) for key, each in value.items()
        }  # mostly words of ours

    def command(self, words: Sequence[str]) -> list[str]:
        """Flags, numbers, places and known words of a command line; something else for all others."""
        return [self._word(word) for word in words]

    def environment(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Versions, devices and switches; no other variable."""
        kept = {name: value for name, value in document.items() if name in (*KEPT_OF_ENVIRONMENT, *RESTORED)}
        places = {name: self.place(kept[name]) for name in ("place", "stand_in") if isinstance(kept.get(name), str)}
        return {name: self.document(value) for name, value in kept.items() if name not in places} | places

    def place(self, text: str) -> str:
        """A place; of one that a Python file simulates another file."""
        try:
            place = parse_place(text)
        except UserError:
            return self.text(text)
        if not place.names_file:
            return self._without_names(text)
        file, _, function = str(place.simulation).rpartition(":")
        kind = f"{place.simulation_kind}:{self.file(file)}.py:{self.text(function)}"
        return "/".join([kind, place.execution, *filter(None, [place.policy])])

    def remaining_in(self, content: bytes) -> list[str]:
        """The names and folders of this machine's person that still stand somewhere."""
        found = [folder for folder in _folders_here() if folder.encode() in content]
        text = content.decode("latin-1")
        return found + ([] if self._name is None else sorted({name.lower() for name in self._name.findall(text)}))

    def _field(self, key: str, value: Any) -> Any:
        if key in OPAQUE_KEYS:
            return _emptied(value)
        if key == "command" and isinstance(value, list):
            return self.command([str(word) for word in value])
        if key == "environment" and isinstance(value, Mapping):
            return self.environment(value)
        if key == "lanes" and isinstance(value, Mapping):
            lanes = value.items()
            return {lane: self.environment(each) if isinstance(each, Mapping) else None for lane, each in lanes}
        if key in ("place", "reference", "candidate") and isinstance(value, str):
            return self.place(value)
        return self.document(value)

    def _word(self, word: str) -> str:
        flag, equals, value = word.partition("=")
        if equals and _FLAG.fullmatch(flag):
            return f"{flag}={self._word(value)}"
        if _FLAG.fullmatch(word) or word in _KNOWN_WORDS or _HARMLESS.fullmatch(word):
            return self._without_names(word)
        with suppress(UserError):
            parse_place(word)
            return self.place(word)
        return f"{self.file(word)}.py:f" if ".py:" in word else VALUE if not _PATH.search(word) else self.file(word)

    def _file(self, found: re.Match[str]) -> str:
        function = found["function"] or ""
        path = found[0].removesuffix(function)
        return f"{self.file(path)}.py{function}" if function and path.endswith(".py") else self.file(path) + function

    def _without_names(self, text: str) -> str:
        if self._name is None:
            return text
        known = {name.lower(): stand_in for name, stand_in in self.names.items()}
        return self._name.sub(lambda found: known[found[0].lower()], text)


def texts_of(document: Any) -> Iterator[str]:
    """Every text of a document, keys too."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for key, value in document.items():
            yield key
            yield from texts_of(value)
    elif isinstance(document, (list, tuple)):
        for value in document:
            yield from texts_of(value)


def _with_spaces(documents: Sequence[Any]) -> set[str]:
    """The paths that only where a command names them are seen to end."""
    words = [word for document in documents if isinstance(document, list) for word in texts_of(document)]
    named = {re.sub(r"^--[a-z-]+=|:\w+$", "", word) for word in words}
    return {path for path in named if re.search(r"\s", path) and re.search(r"[\\/]", path)}


def _emptied(value: Any) -> Any:
    """Nothing, of the same kind."""
    return {} if isinstance(value, Mapping) else "" if isinstance(value, str) else None


def _names_here() -> dict[str, str]:
    """What this machine and its user are called, and what stands for each."""
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "USERNAME", "SUDO_USER")}
    with suppress(OSError, KeyError, ImportError):
        users.add(getpass.getuser())
    with suppress(RuntimeError):
        users.add(Path.home().name)
    host = socket.gethostname()
    hosts = {host, host.partition(".")[0]} - {"localhost"}
    named = dict.fromkeys(users, USER) | dict.fromkeys(hosts, HOST)
    return {name: stand_in for name, stand_in in named.items() if len(name) >= _SHORTEST_NAME}


def _folders_here() -> list[str]:
    """The home folder and this one, the longest first; not the root, which is everywhere."""
    folders = {os.path.expanduser("~"), os.getcwd(), os.path.realpath(os.getcwd())}
    return sorted((each for each in folders if len(each) > 1 and os.path.isabs(each)), key=len, reverse=True)
