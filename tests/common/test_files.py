"""Files that appear whole or not at all, and folders that one process has to itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from diag.common import files
from diag.common.files import claimed, exported, replacing, write_text
from diag.errors import UserError


@pytest.fixture(params=["nameless", "named"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """On Linux a file has no name until it is whole; elsewhere it has another."""
    if request.param == "named":
        monkeypatch.setattr(files, "_nameless", lambda folder: None)
    elif files._nameless(Path("/tmp")) is None:
        pytest.skip("no such files here")
    return request.param


def test_a_file_takes_the_place_of_the_one_before_only_when_it_is_whole(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("before")
    with replacing(path) as unfinished:
        unfinished.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after" and os.listdir(tmp_path) == ["file"]
    with pytest.raises(KeyError), replacing(path) as unfinished:
        unfinished.write_text("never")
        raise KeyError
    assert path.read_text() == "after" and os.listdir(tmp_path) == ["file"]


def test_a_new_file_never_takes_the_place_of_another(way: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path, is_new=True) as unfinished:
        unfinished.write_text("first")
    assert path.read_text() == "first"
    path.unlink()
    with pytest.raises(FileExistsError), replacing(path, is_new=True) as unfinished:
        unfinished.write_text("second")
        path.write_text("of another program")
    assert path.read_text() == "of another program" and os.listdir(tmp_path) == ["file"]
    path.unlink()
    with pytest.raises(UserError, match="exists already"), exported(path, force=False) as unfinished:
        unfinished.write_text("second")
        path.write_text("of another program")
    assert path.read_text() == "of another program"


def test_it_has_the_permissions_of_any_new_file(way: str, tmp_path: Path) -> None:
    write_text(tmp_path / "ours", "")
    (tmp_path / "python's").touch()
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "python's").stat().st_mode


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    if files._nameless(tmp_path) is None:
        pytest.skip("the file system has no files without a name")
    program = (
        "import os, signal, sys; from pathlib import Path; from diag.common.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as unfinished:\n"
        "    unfinished.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")])
    assert done.returncode == -signal.SIGKILL and os.listdir(tmp_path) == []


def test_a_folder_has_one_owner_until_that_has_ended(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from diag.common.files import claimed\n"
        "with claimed(Path(sys.argv[1])):\n"
        "    print('mine', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    folder = tmp_path / "new" / "run"
    owner = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdin=-1, stdout=-1)
    assert owner.stdout is not None and owner.stdout.readline() == b"mine\n"
    with pytest.raises(UserError, match="going on"), claimed(folder):
        pass
    owner.kill()
    owner.communicate()
    (folder / ".trace.h5.1.partial").touch()
    with claimed(folder):
        (folder / "trace.h5").touch()
    assert os.listdir(folder) == ["trace.h5"]


def test_a_folder_that_was_made_and_stays_empty_is_removed(tmp_path: Path) -> None:
    with pytest.raises(KeyError), claimed(tmp_path / "new" / "run"):
        raise KeyError
    assert os.listdir(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot make the folder"), claimed(tmp_path / "file" / "run"):
        pass
