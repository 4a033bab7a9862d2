"""What no flag of any command takes: numbers and files that are none.  One line, exit code 2, at once."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from diag import attribute, compare, doctor, graph, lockstep, options, replay, run
from diag.common.command import file_path, nameable
from diag.errors import UserError
from diag.machine import tensorflow_import
from diag.study import __main__ as study
from probes import __main__ as probes
from probes.fleet import command as fleet
from tests.hostile import sound
from tests.hostile.running import LET_IN
from traces import __main__ as traces

MODULES = {"lockstep": lockstep, "replay": replay, "compare": compare, "attribute": attribute, "graph": graph,
           "doctor": doctor, "run": run, "probes": probes, "study": study, "traces": traces}  # fmt: skip
NOT_NUMBERS = ("-1", "-0.5", "0.5", "1e99", "nan", "inf", "", " ", "abc", "0x10", "9" * 30, "9" * 5000)
NAMES = (file_path, nameable, options._place_or_trace)
FROM_ZERO = {"--seed", "--step", "--op", "--from", "--twins"}


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for name, module in MODULES.items():
        yield name, module.parser()
    yield "probes compare", probes.comparing_parser()
    yield "probes fleet", fleet.parser()
    for action in traces.parser()._subparsers._group_actions:
        yield from ((f"traces {name}", parser) for name, parser in action.choices.items())


NUMBERS = [
    (name, parser, action)
    for name, parser in parsers()
    for action in parser._actions
    if action.type not in (None, *NAMES)
]


@pytest.mark.parametrize(
    ("name", "parser", "action"), [pytest.param(*each, id=f"{each[0]} {each[2].option_strings[0]}") for each in NUMBERS]
)
def test_a_number_that_is_none_is_refused(name, parser, action, capsys):
    flag = action.option_strings[0]
    needed = [word for other in parser._actions if other.required for word in _given(other) if other is not action]
    for value in (*NOT_NUMBERS, *(() if flag in FROM_ZERO else ("0",))):
        with pytest.raises(SystemExit) as ended:
            parser.parse_args([f"{flag}={value}", *needed])
        out, err = capsys.readouterr()
        assert ended.value.code == 2, (flag, value)
        assert out == "" and err.count("\n") == 1 and len(err) < 300, (flag, value, err)
        assert f"argument {'/'.join(action.option_strings)}: expected a whole number of at" in err
    assert getattr(parser.parse_args([flag, "1", *needed]), action.dest) == 1


def _given(action: argparse.Action) -> list[str]:
    return [*action.option_strings[:1], "x" if action.type in (None, *NAMES) else "1"]


def test_all_flags_with_a_number_are_known():
    """Of those that take no number none has one that argparse reads by itself."""
    found = {(name, action.option_strings[0]) for name, _, action in NUMBERS}
    assert len(found) == len(NUMBERS) >= 24
    assert {("lockstep", "--seed"), ("attribute", "--step"), ("probes", "--seed"), ("traces show", "--op")} <= found
    assert not [action for _, _, action in NUMBERS if action.type in (int, float, Path)]


def test_flags_are_written_out_and_every_parser_has_a_version():
    found = dict(parsers())
    assert [name for name, parser in found.items() if parser.allow_abbrev] == []
    assert [name for name, parser in found.items() if "--version" not in parser._option_string_actions] == []


# ---- through the whole command, up to where TensorFlow would be loaded


@pytest.fixture(autouse=True)
def door(monkeypatch: pytest.MonkeyPatch) -> None:
    def let_in() -> None:
        raise UserError(LET_IN)

    for module in (attribute, compare, probes, tensorflow_import):
        monkeypatch.setattr(module, "import_tensorflow", let_in)


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(sound.write(tmp_path_factory.mktemp("sound") / "trace.h5"))


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[[Sequence[str]], str]:
    """What a command says of arguments that it has to refuse at once, with nothing written."""

    def call(line: Sequence[str]) -> str:
        before = _listed(tmp_path)
        try:
            code: object = MODULES[line[0]].main(list(line[1:]))
        except SystemExit as ended:
            code = ended.code
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), (line, err)
        assert err.count("\n") == 1 and LET_IN not in err, (line, err)
        assert _listed(tmp_path) == before
        return err

    return call


def _listed(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_ino, path.lstat().st_size) for path in folder.rglob("*")}


TEXTS = {
    "lockstep --dump-steps": (*NOT_NUMBERS[:-2], "5-1", "1-5:0", ","),
    "lockstep --dump": ("", ",", "all,dense"),
    "lockstep --substitute": ("", "dense", "=reference", "op:=reference", "op:²=reference", "op:-1=reference"),
    "lockstep --candidate": ("", "GPU", "GPU:-1", "GPU:99999", "GPU:1e9", "CPU:0/nowhere", "sim:", "rewrite:x"),
    "lockstep --reference": ("", "trace:", "GPU:x", "trace:/nowhere"),
    "lockstep --policy": ("", "float8", "1"),
    "replay TRACE --step 0 --place": ("", "GPU", "GPU:-1"),
    "attribute TRACE --switches": ("", ",", "tf32", "tf32=off,nonsense"),
    "attribute TRACE --place": ("", "GPU", "GPU:-1"),
    "graph --place": ("", "GPU", "GPU:-1"),
    "probes --place": ("", "GPU", "GPU:-1", "CPU:0/float32"),
    "traces ls TRACE --steps": (*NOT_NUMBERS[:-2], "5-", ",", "9" * 5000),
    "traces show TRACE ops --worst": NOT_NUMBERS,
    "traces show TRACE activations/dense --steps": (*NOT_NUMBERS[:-2], "9" * 5000),
    "traces show TRACE activations/dense --lanes": ("", "nobody", "reference,candidate,reference"),
    "traces diff TRACE --steps": (*NOT_NUMBERS[:-2], "9" * 5000),
}


@pytest.mark.parametrize(("line", "value"), [(line, value) for line, values in TEXTS.items() for value in values])
def test_a_text_that_means_nothing_is_refused(line, value, trace, refused):
    *words, flag = line.replace("TRACE", trace).split()
    refused([*words, f"{flag}={value}"])


FILES = {
    "a trace": ("replay FILE --step 0", "compare FILE TRACE", "compare TRACE FILE", "attribute FILE", "traces ls FILE",
                "traces verify FILE", "traces show FILE ops", "traces diff TRACE --other FILE",
                "traces export FILE --to OUT/x.npz", "lockstep --reference trace:FILE"),
    "another file": ("lockstep --allowances FILE", "lockstep --resume FILE", "probes compare FILE CARD",
                     "probes compare CARD FILE", "replay TRACE --step 0 --op 1 --allowances FILE"),
    "a place to write to": ("compare TRACE TRACE --out FILE", "replay TRACE --step 0 --op 1 --emit FILE",
                            "traces export TRACE --to FILE", "lockstep --out FILE"),
}  # fmt: skip
KINDS = (
    "missing",
    "in a file",
    "a directory",
    "empty",
    "text",
    "null",
    "unreadable",
    "a name of 5000 letters",
    "with a zero byte",
)


@pytest.fixture
def file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    path = tmp_path / "file"
    if request.param == "a directory":
        path.mkdir()
        (path / "trace.h5").touch()
    elif request.param in ("empty", "unreadable"):
        path.touch(0o000 if request.param == "unreadable" else 0o666)
        if request.param == "unreadable" and os.access(path, os.R_OK):
            pytest.skip("root may read anything")
    elif request.param == "text":
        path.write_text("no trace, no card, no table\n")
    else:
        (tmp_path / "file").touch()  # for a name in it
    special = {"null": os.devnull, "a name of 5000 letters": "x" * 5000, "with a zero byte": "x\0y",
               "missing": str(tmp_path / "nothing"), "in a file": str(tmp_path / "file" / "file")}  # fmt: skip
    return special.get(request.param, str(path))


@pytest.mark.parametrize(
    ("line", "file"),
    [
        (line, kind)
        for what, lines in FILES.items()
        for line in lines
        for kind in KINDS
        if (what, kind) != ("a place to write to", "missing")  # which is made
    ],
    indirect=["file"],
)
def test_a_file_that_is_none_is_refused(line, file, trace, tmp_path, refused):
    known = {"TRACE": trace, "OUT": str(tmp_path), "CARD": "docs/cards/cpu-eager.json", "FILE": file}
    words = []
    for word in line.split():
        for name, path in known.items():
            word = word.replace(name, path) if name in word else word
        words.append(word)
    refused(words)


@pytest.mark.parametrize("file", ["in a file", "a directory", "null", "a name of 5000 letters"], indirect=True)
def test_a_card_takes_the_place_of_no_other_than_a_file(file, refused):
    """Not of a device either, which would then be one no more."""
    refused(["probes", "--out", file])
