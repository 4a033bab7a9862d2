"""`pack`: one step of a trace that can be run and reported on, small, and where that is asked of nobody."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from diag import replay
from diag.report.__main__ import main as report_main
from tests import traced
from tests.traces.conftest import LANES, write_trace
from traces.anonymous import Anonymizer
from traces.reader import TraceReader

USER, HOST = "agatha", "agathas-tower"


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, USER)
    monkeypatch.setenv("HOME", f"/home/{USER}")
    monkeypatch.setattr("socket.gethostname", lambda: f"{HOST}.example.org")


def contents(path: Path) -> dict[str, bytes]:
    """The file, and what lies compressed in it: datasets, attributes, the parts of programs."""
    found = {"the file": path.read_bytes()}

    def add(name: str, member: object) -> None:
        if isinstance(member, h5py.Dataset):
            found[name] = np.asarray(member[()]).tobytes()

    with h5py.File(path) as file:
        file.visititems(add)
        start = 0
        for stop in file["programs/stop"][()].tolist():
            blob = io.BytesIO(found["programs/bytes"][start:stop])
            start = stop
            if zipfile.is_zipfile(blob):
                with zipfile.ZipFile(blob) as parts:
                    found |= {f"program/{name}": parts.read(name) for name in parts.namelist()}
    return found


def test_a_packed_step_replays_and_is_reported_on(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = traced.trace(*traced.MLP, "--candidate", "sim:tf32", *traced.FREE, *traced.FEW_STATES, "--units", "step")
    out = tmp_path / "packed.h5"
    done = run("pack", trace, "--step", "2", "-o", out, "--json")
    assert done.code == 0 and done.document["stored"]["other"] < 2_000_000
    with TraceReader(out) as packed, TraceReader(trace) as whole:
        start = done.document["start"]
        assert packed.snapshots == [start] == [max(n for n in whole.snapshots if n <= 2)]
        assert packed.steps_with_batches == list(range(start, 3)) and packed.steps == whole.steps
        assert packed.losses["candidate"].tolist() == whole.losses["candidate"].tolist()
        assert packed.created == whole.created and packed.report() == whole.report()
        assert (
            not packed.kept_in(2) and packed.checksums_of_steps()[2].tolist() == whole.checksums_of_steps()[2].tolist()
        )
        assert {n: c.tolist() for n, c in packed.unit_table().items() if c.dtype != float} == {
            n: c.tolist() for n, c in whole.unit_table().items() if c.dtype != float
        }
    assert run("verify", out).code == 0
    assert replay.main([str(out), "--step", "2"]) == 0
    assert "reproduced bit for bit" in " ".join(capsys.readouterr().out.split())
    assert report_main([str(out)]) == 1 and "Divergence at step 0" in capsys.readouterr().out


def test_an_anonymous_file_has_no_batch_no_path_and_no_name(
    run, refused, at_home: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "trace.h5", tmp_path / "packed.h5"
    shutil.copy(traced.cpu(), trace)
    said = {
        "schema": "lockstep-report/1", "verdict": "identical", "first_divergence": None, "steps": 3,
        "command": ["--model", f"/home/{USER}/my nets/a.py:f"],
        "notes": [f"in /home/{USER}/my nets/a.py and C:\\Users\\{USER}\\b.npz", f"{USER}@{HOST}", "./c/d.keras is so"],
        "lanes": {"reference": {"place": f"sim:/home/{USER}/faults.py:f/graph", "TF_CONFIG": HOST, "tf32": True}},
    }  # fmt: skip
    packed_of = tmp_path / "with-report.h5"
    assert run("pack", trace, "--step", "1", "-o", packed_of).code == 0
    with h5py.File(packed_of, "r+") as file:  # as a run by this person would have it
        text = json.dumps(said).encode()
        for name in ("bytes", "stop", "checksum"):
            file[f"reports/{name}"].resize(0, axis=0)
        file["reports/complete"][()] = 0
        from traces.hdf5.blobs import BlobWriter

        BlobWriter(file["reports"]).append(text)
    done = run("pack", packed_of, "--step", "1", "--anonymous", "-o", out, "--json")
    assert done.code == 0 and done.document["is_anonymous"] and done.document["notes"] == []
    secrets = (USER, HOST, "/home/", "my nets", str(tmp_path), str(Path.cwd()), "faults", "TF_CONFIG", "d.keras", "zoo")
    for secret in secrets:
        assert not [name for name, content in contents(out).items() if secret.encode() in content], secret
    with TraceReader(out) as packed:
        report = packed.report()
        assert report is not None and report["command"][0] == "--model" and report["command"][1].endswith(".py:f")
        assert report["notes"][1] == "USER@HOST" and report["lanes"]["reference"]["place"].endswith(".py:f/graph")
        assert report["lanes"]["reference"]["tf32"] is True and packed.steps_with_batches == []
    assert "no paths of files" in " ".join(run("ls", out).out.split()) and run("verify", out).code == 0
    capsys.readouterr()
    assert replay.main([str(out), "--step", "1"]) == 2
    assert "packed with --anonymous and holds no batch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GPU:0/graph/mixed_float16 and CPU:0/eager", None), ("error / bound is 5 of 3/4, loss/Mean", None),
        ("open /home/a b.py", "open FILE_1 FILE_2"), ("see file:///x/y.h5, then ~/z", "see FILE_1, then FILE_2"),
        ("--out=/a/b --data=data/cats.npz:f", "--out=FILE_1 --data=FILE_2:f"),
        (r"D:\work\me is there", "FILE_1 is there"),
    ],
)  # fmt: skip
def test_paths_are_found_in_text_and_nothing_else(text: str, expected: str | None) -> None:
    assert Anonymizer().text(text) == (expected or text)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--step", "9"), "--step 9: "), (("--step", "2", "-o", "{here}/none/x.h5"), "there is no folder"),
        (("--step", "2", "-o", "{here}/trace.h5"), "exists already"),
    ],
)  # fmt: skip
def test_what_cannot_be_packed_is_refused_and_leaves_nothing(
    refused, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    trace = write_trace(tmp_path / "trace.h5")
    assert words in refused("pack", trace, *(each.format(here=tmp_path) for each in arguments))
    assert [path.name for path in tmp_path.iterdir()] == ["trace.h5"]


def test_damage_is_not_packed_as_if_it_were_sound(refused, run, tmp_path: Path) -> None:
    trace = write_trace(tmp_path / "trace.h5", portable=True)
    assert run("pack", trace, "-o", tmp_path / "sound.h5").code == 0  # the step of its first divergence, and all before
    content = trace.read_bytes()
    state = np.arange(6, dtype="<f4").tobytes()
    assert content.count(state) == len(LANES)
    trace.write_bytes(content.replace(state, state[::-1]))
    assert "is not what was written" in refused("pack", trace, "-o", tmp_path / "packed.h5")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sound.h5", "trace.h5"]
