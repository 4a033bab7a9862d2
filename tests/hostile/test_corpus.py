"""A trace of a stranger can lie, and every command that opens one says so in one line, soon, and opens nothing else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hostile import running, sound
from tests.hostile.corpus import CORPUS, SECRET, Hostile, written
from tests.hostile.running import LET_IN, MARK, NUM_BYTES, SECONDS, Outcome

ROOT = Path(__file__).parents[2]
ALLOWED = [sys.prefix, sys.base_prefix, str(Path(running.__file__).parents[2]), "/proc/", "/sys/", "/dev/null"]
SYSTEM = ["/etc/ld.so.cache", "/etc/localtime", "/lib", "/usr/lib", "/usr/share/zoneinfo"]
"""What the system's own libraries are loaded from."""

ACTS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What a terminal takes for more than text."""

pytestmark = pytest.mark.skipif(not hasattr(running.os, "fork"), reason="each command runs in a forked process")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    sound.write(folder / "sound.trace")
    assert len(list(written(folder))) == len(CORPUS)
    return folder


def run_all(folder: Path, out: Path, *watched_by: str, every: int = 1) -> str:
    out.mkdir()
    command = [*watched_by, sys.executable, "-m", "tests.hostile.running", str(folder), str(out), str(every)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=True)
    return done.stdout


@pytest.fixture(scope="session")
def outcomes(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, dict[str, Outcome]]:
    """How each command ended on each file; but where slow tests run, an eighth of the commands, by turns."""
    found: dict[str, dict[str, Outcome]] = {}
    every = 8 if request.config.getoption("markexpr") == "not slow" else 1
    for line in run_all(folder, tmp_path_factory.mktemp("out") / "out", every=every).splitlines():
        document = json.loads(line)
        of_file = found.setdefault(document.pop("file"), {})
        of_file[document["command"]] = Outcome(**document)
    return found


@pytest.mark.parametrize("hostile", CORPUS, ids=lambda each: each.name)
def test_every_command_says_one_line_in_time(outcomes: dict[str, dict[str, Outcome]], hostile: Hostile) -> None:
    of_file = outcomes[hostile.name]
    assert len(of_file) in (3, 4, 5, 16)
    for outcome in of_file.values():
        assert outcome.code in (0, 1, 2), outcome
        assert outcome.seconds < SECONDS and outcome.num_bytes < NUM_BYTES, outcome
        assert outcome.err.count("\n") == (outcome.code == 2), outcome
        assert not re.search(
            r"[^\n\x20-\x7e\x80-\uffff]|[\x80-\x9f\u202a-\u202e\u2066-\u2069]", outcome.out + outcome.err
        )
        assert SECRET not in outcome.out + outcome.err


@pytest.mark.parametrize("hostile", [each for each in CORPUS if each.refused is not None], ids=lambda each: each.name)
def test_what_is_refused_says_why(outcomes: dict[str, dict[str, Outcome]], hostile: Hostile) -> None:
    of_file = outcomes[hostile.name]
    assert hostile.refused is not None
    refusing = ["ls"] if hostile.verified else list(of_file)
    for name in refusing:
        assert of_file[name].code == 2, of_file[name]
        assert hostile.refused in of_file[name].err and LET_IN not in of_file[name].err, of_file[name]
    assert of_file["verify"].code == (1 if hostile.verified else 2)


@pytest.mark.parametrize("hostile", [each for each in CORPUS if each.refused is None], ids=lambda each: each.name)
def test_what_is_let_in_is_shown_as_text(outcomes: dict[str, dict[str, Outcome]], hostile: Hostile) -> None:
    of_file = outcomes[hostile.name]
    assert of_file["ls"].code == 0
    assert hostile.printed in of_file["ls"].out.replace("\n", " ").replace("  ", " ") or hostile.printed in re.sub(
        r"\s+", "", of_file["ls"].out
    )
    assert of_file["verify"].code == hostile.verified, of_file["verify"]


def test_a_formula_is_none_in_an_exported_table(folder: Path, tmp_path: Path) -> None:
    from traces.__main__ import main

    file = folder / "a_layer_that_is_a_formula.h5"
    assert main(["export", str(file), "--to", str(tmp_path / "units.csv"), "--table", "units"]) == 0
    assert "'=cmd" in (tmp_path / "units.csv").read_text()


def test_python_opens_nothing_else(outcomes: dict[str, dict[str, Outcome]], folder: Path) -> None:
    opened = {path for of_file in outcomes.values() for outcome in of_file.values() for path in outcome.opened}
    assert any(path.endswith("sound.trace") for path in opened)  # the hook heard something
    outside = [path for path in opened if not _is_allowed(path, folder)]
    assert outside == []


def _is_allowed(path: str, folder: Path) -> bool:
    if path.startswith(str(folder)):
        return path.endswith((".h5", "sound.trace"))
    if path.endswith(".py") and not path.startswith("/"):  # a source that numba compiles, as it names it
        return any((Path(base) / path).exists() for base in [Path.cwd(), *sys.path])
    is_number = path.startswith("open ")  # a file descriptor
    return is_number or "/out" in path or any(path.startswith(prefix) for prefix in ALLOWED)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace watches what HDF5 opens")
def test_hdf5_opens_nothing_else(folder: Path, tmp_path: Path) -> None:
    """The system's own calls, of half of the commands by turns on what leads elsewhere: links, external storage."""
    few = tmp_path / "few"
    few.mkdir()
    for path in [folder / "sound.trace", *folder.glob("*external*.h5"), *folder.glob("*virtual*.h5")]:
        shutil.copy(path, few / path.name)
    for path in folder.glob("*soft*.h5"):
        shutil.copy(path, few / path.name)
    log = tmp_path / "calls"
    run_all(
        few, tmp_path / "out", "strace", "-f", "-qq", "-e", "trace=open,openat,socket,connect,execve", "-o", str(log),
        every=2,
    )  # fmt: skip
    text = log.read_text(errors="replace")
    after = text[text.index(MARK) :]
    opened = set(re.findall(r'open(?:at)?\([^"]*"([^"]*)"', after))
    assert str(few / "external_storage.h5") in opened
    assert not re.findall(r"(?:socket|connect|execve)\(.*", after)
    inside = [*ALLOWED, *SYSTEM, str(few), str(tmp_path / "out")]
    outside = [path for path in opened if path.startswith("/") and not any(path.startswith(p) for p in inside)]
    assert outside == []
    assert not [path for path in opened if "canary" in path or "hostname" in path]
