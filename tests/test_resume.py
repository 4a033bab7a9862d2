"""A run that was killed and goes on ends as if it had not been."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  registers the filters the tensors are compressed with
import numpy as np
import pytest

from diag import lockstep
from diag.common.files import claimed
from diag.engine.recordings.checkpoint import Checkpoints
from diag.engine.recordings.recording import Recording
from traces.reader import TraceReader

ROOT = Path(__file__).parent.parent
ZOO = Path(__file__).with_name("zoo.py")
KILLED = Path(__file__).with_name("killed.py")
STEPS = 8
DROPOUT = ("--model", f"{ZOO}:cnn", "--batch-size", "4", "--steps", str(STEPS), "--quiet")
MLP = ("--model", f"{ZOO}:mlp", "--batch-size", "4", "--steps", str(STEPS), "--quiet")
EVERY_STEP = 1e9
"""As a share of the run's time that keeping checkpoints may take: each step is followed by one."""

FILES = """
import numpy as np

def numbers():
    return np.random.default_rng(0).random((14, 5), "float32"), np.arange(14, dtype="int32") % 3

class Counter:
    calls = 0

def remembers_an_object(call):
    call.memory.setdefault("counter", Counter()).calls += 1
    return [call.outputs[0] * np.float32(1.5)] if call.op_type == "Relu" and call.step > 3 else None

def halved():
    from tests import zoo
    model = zoo.cnn()
    model.layers[0].set_weights([x / 2 for x in model.layers[0].get_weights()])
    return model

def differs_by_run(call, draw=np.random.default_rng().random):
    return [call.outputs[0] * np.float32(1 + draw() * 2**-21)] if call.op_type == "MatMul" else None
"""


class Killed(KeyboardInterrupt):
    """As Ctrl-C, which leaves no report either."""


@pytest.fixture(autouse=True)
def where_models_are_found(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "files.py").write_text(FILES)


@pytest.fixture
def kept(monkeypatch) -> Callable[[int], None]:
    """Of `keep(step)`: the last checkpoint of a run is that before this step."""

    def keep(last: int) -> None:
        write = Checkpoints.write

        def write_up_to(self, header, *rest):
            if header.next_step <= last:
                write(self, header, *rest)

        monkeypatch.setattr(Checkpoints, "write", write_up_to)
        monkeypatch.setattr("diag.engine.recordings.checkpoint.SHARE", EVERY_STEP)

    return keep


def begin(folder: Path, *flags: str, after: int) -> None:
    """A run that is ended, as by Ctrl-C, once so many of its steps are on file."""
    write = Recording.step

    def step(self, finished):
        write(self, finished)
        if self.num_steps == after:
            raise Killed

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recording, "step", step)
        assert lockstep.main([*flags, "--out", str(folder)]) == 130
    assert (folder / "trace.h5").exists() and not (folder / "report.json").exists()


def whole(folder: Path, *flags: str) -> Path:
    assert lockstep.main([*flags, "--out", str(folder)]) in (0, 1)
    return folder


def code_of(*flags: str) -> list[str]:
    """Those that name Python files, which are run only if they are given again."""
    pairs = zip(flags, (*flags[1:], ""), strict=True)
    return [word for flag, value in pairs if flag.startswith("--") and ".py:" in value for word in (flag, value)]


def resume(folder: Path, *flags: str) -> Path:
    assert lockstep.main(["--resume", str(folder), "--quiet", *flags]) in (0, 1)
    assert sorted(path.name for path in folder.iterdir()) == ["report.html", "report.json", "trace.h5"]
    return folder


WHERE_WRITTEN = ("/command", "/checksums", "/sources/file", "/sources/appended_checksum")
"""Files are named relative to the folder that a run was started in."""


def datasets(path: Path) -> Iterator[tuple[str, tuple[int, ...], bytes]]:
    """All of a trace but what says where and when it was written."""
    with h5py.File(path) as file:
        found: list[h5py.Dataset] = []
        file.visititems(lambda _, each: found.append(each) if isinstance(each, h5py.Dataset) else None)
        for each in found:
            if each.name not in WHERE_WRITTEN and not each.name.startswith("/reports/"):
                yield each.name, each.shape, np.asarray(each[()]).tobytes()


def report(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {name: value for name, value in found.items() if name not in ("files", "command", "created", "seconds")}


def assert_same(folder: Path, other: Path) -> None:
    assert report(folder) == report(other)
    for (name, *values), (also, *others) in zip(
        datasets(folder / "trace.h5"), datasets(other / "trace.h5"), strict=True
    ):
        assert (name, values) == (also, others), name


# ---- bit for bit


def test_a_run_killed_at_a_random_step_goes_on_bit_for_bit(tmp_path) -> None:
    flags = (*DROPOUT, "--follow", "free", "--candidate", "sim:tf32", "--snapshot-every", "3", "--no-attribute")
    flags, after = (*flags, "--steps", "5"), random.randrange(2, 5)
    killed = tmp_path / "killed"
    command = [sys.executable, str(KILLED), str(after), *flags, "--out", str(killed)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == -9, ended.stderr
    with TraceReader(killed / "trace.h5") as trace:
        assert trace.steps == list(range(after))
    assert_same(resume(killed, *code_of(*flags)), whole(tmp_path / "whole", *flags))


WAYS = {
    "the candidate followed, few states": (
        *("--follow", "candidate", "--candidate", "sim:metal-fused-dense"),
        *("--snapshot-every", "5", "--check-every", "3", "--dump", "flagged", "--portable"),
    ),
    "free, with twins, another random stream": (
        "--follow", "free", "--twins", "3", "--candidate", "sim:rng-other-stream",
    ),
    "a random stream that stands still": ("--candidate", "sim:rng-frozen"),
}  # fmt: skip


FIRST, *OTHERS = WAYS


@pytest.mark.parametrize("way", [FIRST, *(pytest.param(way, marks=pytest.mark.slow) for way in OTHERS)])
def test_whoever_is_followed_and_whatever_is_found(tmp_path, kept, way) -> None:
    flags = (*DROPOUT, *WAYS[way])
    kept(4)
    begin(tmp_path / "killed", *flags, after=6)  # two steps are computed again
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_predictions_go_on_as_training_does(tmp_path, kept) -> None:
    flags = (*DROPOUT, "--mode", "predict", "--candidate", "sim:tf32")
    kept(3)
    begin(tmp_path / "killed", *flags, after=5)
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_two_models_go_on_each_with_its_weights(tmp_path, kept) -> None:
    flags = (*DROPOUT, "--mode", "predict", "--candidate-model", "files.py:halved")
    kept(3)
    begin(tmp_path / "killed", *flags, after=5)
    resumed = resume(tmp_path / "killed", *code_of(*flags))
    assert_same(resumed, whole(tmp_path / "whole", *flags))
    assert [each["cause"] for each in report(resumed)["weights"]["differing"]] == ["scaled"]


@pytest.mark.slow
def test_every_op_of_every_step(tmp_path, kept) -> None:
    flags = (*MLP, "--units", "op", "--candidate", "sim:bf16-inputs")
    kept(3)
    begin(tmp_path / "killed", *flags, after=3)
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_smaller_last_batches_and_what_a_fault_remembers_of_the_larger(tmp_path, kept) -> None:
    flags = (*MLP, "--data", "files.py:numbers", "--candidate", "sim:stale-partial-batch")
    kept(3)  # before a batch of 2, after one of 4
    begin(tmp_path / "killed", *flags, after=4)
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_a_recorded_reference(tmp_path, kept) -> None:
    recorded = whole(tmp_path / "recorded", *DROPOUT, "--candidate", "CPU:0", "--snapshot-every", "2")
    flags = ("--reference", f"trace:{recorded / 'trace.h5'}", "--candidate", "sim:tf32", "--quiet")
    kept(4)
    begin(tmp_path / "killed", *flags, after=6)
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_killed_again_while_it_goes_on(tmp_path, kept) -> None:
    flags = (*DROPOUT, "--candidate", "sim:tf32")
    kept(3)
    folder = tmp_path / "killed"
    begin(folder, *flags, after=5)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("traces.writer.copy_rows", lambda *_: (_ for _ in ()).throw(Killed))
        before = (folder / "trace.h5").read_bytes()
        assert (
            lockstep.main(["--resume", str(folder), *code_of(*flags), "--quiet"]) == 130
        )  # in the middle of the copying
        assert (folder / "trace.h5").read_bytes() == before
    assert_same(resume(folder, *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_what_no_plain_data_say_is_done_again_from_the_start(tmp_path, kept) -> None:
    flags = (*MLP, "--candidate", "sim:files.py:remembers_an_object")
    kept(STEPS)
    begin(tmp_path / "killed", *flags, after=5)
    assert not (tmp_path / "killed/resume.npz").exists()
    assert_same(resume(tmp_path / "killed", *code_of(*flags)), whole(tmp_path / "whole", *flags))


@pytest.mark.slow
def test_more_steps_than_at_first(tmp_path, kept) -> None:
    flags = (*MLP, "--candidate", "sim:tf32", "--snapshot-every", "2")
    kept(3)
    begin(tmp_path / "killed", *flags, after=5)
    more = resume(tmp_path / "killed", *code_of(*flags), "--steps", "11")
    assert report(more)["steps"] == 11
    other = whole(tmp_path / "whole", *flags)
    with TraceReader(more / "trace.h5") as longer, TraceReader(other / "trace.h5") as trace:
        assert longer.steps == list(range(11)) and longer.layout.steps == 11
        for lane, losses in trace.losses.items():
            assert longer.losses[lane][:STEPS].tobytes() == losses.tobytes()


def test_a_step_that_comes_out_otherwise_is_said(tmp_path, kept, capsys) -> None:
    flags = (*MLP, "--candidate", "sim:files.py:differs_by_run", "--units", "step", "--verbose")
    flags = (*flags, "--steps", "3", "--no-attribute")
    kept(1)
    begin(tmp_path / "killed", *flags, after=3)
    capsys.readouterr()
    resume(tmp_path / "killed", *code_of(*flags))
    said = " ".join(capsys.readouterr().out.split())
    assert "of 2 steps computed again, 2 have other bits than before" in said and "not reproducible" in said


# ---- what is refused, in one line


def refused(capsys, *flags: str) -> str:
    capsys.readouterr()
    assert lockstep.main(list(flags)) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return str(error)


@pytest.fixture(scope="module")
def killed_once(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("once") / "killed"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("diag.engine.recordings.checkpoint.SHARE", EVERY_STEP)
        begin(folder, *MLP, "--candidate", "CPU:0", after=3)
    return folder


@pytest.fixture
def killed(killed_once, tmp_path) -> Path:
    return Path(shutil.copytree(killed_once, tmp_path / "killed"))


def test_a_folder_with_no_trace(tmp_path, capsys) -> None:
    assert "no trace.h5" in refused(capsys, "--resume", str(tmp_path))
    assert "no trace.h5" in refused(capsys, "--resume", str(tmp_path / "nowhere"))


def test_a_run_that_is_finished(tmp_path, capsys) -> None:
    folder = whole(tmp_path / "whole", *MLP, "--candidate", "CPU:0", "--units", "step")
    assert "is finished" in refused(capsys, "--resume", str(folder))


@pytest.mark.parametrize("flags", [("--seed", "3"), ("--follow", "free"), ("--steps", "2"), ("--out", "elsewhere")])
def test_a_flag_that_contradicts(killed, capsys, flags) -> None:
    error = refused(capsys, "--resume", str(killed), *flags)
    assert f"with {flags[0]} {flags[1]}" in error


def test_code_is_run_only_if_it_is_named_again(tmp_path, killed, capsys) -> None:
    error = refused(capsys, "--resume", str(killed))
    assert f"was begun with --model {ZOO}:mlp; no code is run because a trace names it" in error
    flags = ("--model", f"{ZOO}:mlp", "--data=files:numbers", "--candidate", "sim:files.py:remembers_an_object/eager")
    begin(tmp_path / "more", *flags, "--trust", "--quiet", after=1)
    error = refused(capsys, "--resume", str(tmp_path / "more"), *flags[:2])
    assert f"begun with --data files:numbers {' '.join(flags[3:])} --trust; no code" in error


def test_flags_that_say_the_same_are_taken(killed) -> None:
    resume(killed, *code_of(*MLP), "--seed", "0", "--batch-size", "4", "--candidate", "CPU:0")


def test_another_version_of_tensorflow(killed, capsys, monkeypatch) -> None:
    monkeypatch.setattr("tensorflow.__version__", "2.0.0")
    error = refused(capsys, "--resume", str(killed), *code_of(*MLP))
    assert "tensorflow 2." in error and "here it is 2.0.0" in error


def test_another_model(tmp_path, capsys) -> None:
    (tmp_path / "model.py").write_text(ZOO.read_text())
    flags = ("--model", "model.py:mlp", *MLP[2:], "--candidate", "CPU:0")
    begin(tmp_path / "killed", *flags, after=2)
    (tmp_path / "model.py").write_text(ZOO.read_text().replace('layers.Dense(8, "relu")', 'layers.Dense(8, "tanh")'))
    assert "another training step" in refused(capsys, "--resume", str(tmp_path / "killed"), *code_of(*flags))


def test_other_data(tmp_path, capsys) -> None:
    flags = (*MLP, "--data", "files.py:numbers", "--candidate", "CPU:0")
    begin(tmp_path / "killed", *flags, after=3)
    before = (tmp_path / "killed/trace.h5").read_bytes()
    (tmp_path / "files.py").write_text(FILES.replace("default_rng(0)", "default_rng(1)"))
    assert "another batch in step 0" in refused(capsys, "--resume", str(tmp_path / "killed"), *code_of(*flags))
    assert (tmp_path / "killed/trace.h5").read_bytes() == before


def test_a_run_that_is_going_on(killed, capsys) -> None:
    with claimed(killed):
        assert "is going on" in refused(capsys, "--resume", str(killed), *code_of(*MLP))
    resume(killed, *code_of(*MLP))


def test_a_checkpoint_that_is_damaged_or_of_another_trace(killed, capsys) -> None:
    content = (killed / "resume.npz").read_bytes()
    (killed / "resume.npz").write_bytes(content[: len(content) // 2])
    assert "cannot be read" in refused(capsys, "--resume", str(killed), *code_of(*MLP))
    (killed / "resume.npz").unlink()
    resume(killed, *code_of(*MLP))  # all steps again


def test_a_trace_that_lost_rows_since_its_checkpoint(tmp_path, killed, capsys) -> None:
    begin(tmp_path / "shorter", *MLP, "--candidate", "CPU:0", after=1)
    shutil.copy(tmp_path / "shorter/trace.h5", killed / "trace.h5")
    assert "fewer rows" in refused(capsys, "--resume", str(killed), *code_of(*MLP))
