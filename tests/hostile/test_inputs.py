"""A model or data of a stranger are refused in one line, before anything of them is built, unpacked or run."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from diag import lockstep
from tests.hostile import inputs
from tests.hostile.inputs import CORPUS, Hostile

SECONDS = 20
# TensorFlow waits ten seconds for memory before it gives up; the line is that of all that Keras cannot read.
WAITING = "a_layer_of_ten_trillion_weights"
OFTEN = [pytest.param(each, marks=pytest.mark.slow if each.name == WAITING else ()) for each in CORPUS]


def files_in(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning", "ignore::UserWarning:keras")
@pytest.mark.parametrize("hostile", OFTEN, ids=[each.name for each in CORPUS])
def test_each_is_refused_in_one_line(
    hostile: Hostile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = hostile.make(tmp_path)
    before, begun = files_in(tmp_path), time.monotonic()
    capsys.readouterr()
    code = lockstep.main([*flags, "--candidate", "CPU:0", "--steps", "1", "--quiet", "--out", str(tmp_path / "run")])
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert hostile.says in err and err.startswith(("lockstep: --model", "lockstep: --data"))
    assert files_in(tmp_path) == before
    assert time.monotonic() - begun < SECONDS


def ended(flags: list[str], folder: Path) -> int:
    return lockstep.main([*flags, "--candidate", "CPU:0", "--steps", "1", "--quiet", "--out", str(folder / "run")])


@pytest.mark.filterwarnings("ignore::UserWarning:keras")
def test_with_trust_a_models_code_is_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = inputs.a_lambda(tmp_path)
    (tmp_path / "written").unlink(missing_ok=True)
    ended([*flags, "--trust"], tmp_path)
    assert (tmp_path / "written").exists()
    said = f"note: --trust runs what {tmp_path / 'model.keras'} holds: Python code (Lambda) in mine\n"
    assert said in capsys.readouterr().err


def test_with_trust_links_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = inputs.an_image_elsewhere(tmp_path)
    assert ended([*flags, "--model", str(inputs.of_any_size(tmp_path)), "--trust"], tmp_path) == 0


def test_links_within_a_folder_are_followed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = inputs.an_image_elsewhere(tmp_path)
    shutil.move(tmp_path / "secret.png", tmp_path / "photos/.secret.png")
    (tmp_path / "photos/cats/a.png").unlink()
    (tmp_path / "photos/cats/a.png").symlink_to("../.secret.png")
    assert ended([*flags, "--model", str(inputs.of_any_size(tmp_path))], tmp_path) == 0
