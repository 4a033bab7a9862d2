"""No command imports from the folder that it is started in, and none runs on another's package of our name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests import traced

ROOT = Path(__file__).parents[1]
MODEL = ("--model", str(ROOT / "tests/zoo.py:mlp"))
CARD = str(ROOT / "docs/cards/cpu-eager.json")
COMMANDS = {
    "traces": ("ls", "{trace}"),
    "diag.replay": ("{trace}", "--step", "1"),
    "diag.compare": ("{trace}", "{trace}"),
    "diag.attribute": ("{trace}", "--step", "1"),
    "diag.lockstep": (*MODEL, "--candidate", "CPU:0", "--steps", "1", "--units", "step", "--quiet", "--out", "{out}"),
    "diag.graph": MODEL,
    "diag.doctor": (),
    "probes": ("compare", CARD, CARD),
}
TRAPS = (
    "argparse", "dataclasses", "diag", "google", "h5py", "hdf5plugin", "joblib", "json", "keras", "logging", "math",
    "mpmath", "numba", "numpy", "pathlib", "probes", "rich", "scipy", "shlex", "sitecustomize", "subprocess",
    "tensorflow", "time", "tomllib", "traces", "typing", "usercustomize", "xxhash", "zipfile",
)  # fmt: skip


def python(
    folder: Path, *words: str, path: str = str(ROOT), before: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    variables = {**kept, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"}
    line = [*before, sys.executable, *words]
    return subprocess.run(line, cwd=folder, env=variables, capture_output=True, text=True, timeout=120)


def trap(folder: Path, except_for: str = "") -> Path:
    """A folder of modules that say so when they are imported."""
    folder.mkdir()
    for name in TRAPS:
        if name != except_for:
            (folder / f"{name}.py").write_text(f"import os\nos.write(2, b'TRAP {name}\\n')\n")
    return folder


SOME = ("traces", "diag.replay", "probes")
SOME_FIRST = [*SOME, *(pytest.param(each, marks=pytest.mark.slow) for each in COMMANDS if each not in SOME)]


def test_the_traps_are_traps(tmp_path: Path) -> None:
    done = python(trap(tmp_path / "here"), "-c", "import h5py, argparse, traces")
    assert done.stderr.split("\n")[:3] == ["TRAP h5py", "TRAP argparse", "TRAP traces"]


@pytest.mark.parametrize("module", SOME_FIRST)
def test_nothing_beside_a_trace_is_imported(module: str, tmp_path: Path) -> None:
    """But for what has the command's own name, and what Python loads to find it (contextlib): -P is for these."""
    folder = trap(tmp_path / "here", except_for=module.partition(".")[0])
    words = [word.format(trace=traced.cpu(), out=tmp_path / "run") for word in COMMANDS[module]]
    done = python(folder, "-m", module, *words)
    assert "TRAP" not in done.stderr and done.returncode in (0, 1), done.stderr
    assert done.stdout


@pytest.mark.parametrize("beside", ["{}/tensorflow/core/kernels", "{}.runfiles/org_tensorflow/tensorflow/core/kernels"])
@pytest.mark.parametrize(("module", "name"), [("diag.graph", "diag.graph"), ("diag.replay", "diag.common.child")])
def test_no_kernels_beside_a_trace_are_loaded(module: str, name: str, beside: str, tmp_path: Path) -> None:
    """TensorFlow's own search for libtfkernel*.so, which a folder of the command's name would satisfy."""
    (tmp_path / beside.format(name)).mkdir(parents=True)
    words = [word.format(trace=traced.cpu()) for word in COMMANDS[module]]
    done = python(tmp_path, "-m", module, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"TensorFlow would execute code in {name}" in done.stderr


@pytest.mark.parametrize("module", SOME_FIRST)
def test_no_settings_of_numba_are_taken(module: str, tmp_path: Path) -> None:
    """They can name a folder of pickles that numba loads what it compiled from."""
    (tmp_path / ".numba_config.yaml").write_text("cache_dir: here\n")
    done = python(tmp_path, "-m", module, "--help")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "numba would take its settings from .numba_config.yaml here" in done.stderr


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace sees where HDF5 looks")
@pytest.mark.parametrize("started", [True, False])
def test_no_filters_beside_a_trace_are_loaded(started: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """HDF5 would execute any disable/lib*.so once Flow has set this, in a child of a process with Flow."""
    monkeypatch.setenv("HDF5_PLUGIN_PATH", "disable")
    calls = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=openat", "-o", str(tmp_path / "calls"))
    words = ("-m", "traces", "verify", str(traced.cpu())) if started else ("-c", "import hdf5plugin")
    assert python(tmp_path, *words, before=calls).returncode == 0
    assert ('"disable"' in (tmp_path / "calls").read_text(errors="replace")) == (not started)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="-P is of Python 3.11")
def test_with_p_not_even_the_commands_own_name(tmp_path: Path) -> None:
    folder = trap(tmp_path / "here")
    assert "TRAP traces" in python(folder, "-m", "traces", "--help").stderr
    done = python(folder, "-P", "-m", "traces", "--help")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_persons_own_files_find_their_neighbours_and_tensorflow_looks_for_kernels_where_we_do(tmp_path: Path) -> None:
    """Of TensorFlow a canary, where strace sees it: it may look elsewhere one day."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/neighbour.py").write_text("UNITS = 3\n")
    text = (
        "import keras, neighbour\ndef model():\n return keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])\n"
    )
    (tmp_path / "mine/model.py").write_text(text)
    calls = ("strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=access,openat", "-o", str(tmp_path / "calls"))
    has_strace = shutil.which("strace") is not None
    words = ("-m", "diag.graph", "--model", "mine/model.py:model")
    done = python(tmp_path, *words, before=calls if has_strace else ())
    assert done.returncode == 0, done.stderr
    if has_strace:
        text = (tmp_path / "calls").read_text(errors="replace")
        looked = re.findall(r'"([^"/][^"]*(?:kernels|org_tensorflow))"', text)
        assert set(looked) == {"diag.graph.runfiles/org_tensorflow", "diag.graph/tensorflow/core/kernels"}


def test_what_lies_where_a_person_is_has_to_be_asked_for(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "here.py").write_text("")
    (tmp_path / "mine/model.py").write_text("import here\ndef model():\n return here.MODEL\n")
    done = python(tmp_path, "-m", "diag.graph", "--model", "mine/model.py:model")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "No module named 'here' (line 1); PYTHONPATH=. before the command lets it import" in done.stderr


@pytest.mark.parametrize("module", ["traces", "diag.replay", "diag.doctor", "probes"])
@pytest.mark.parametrize("name", ["traces", "diag"])
def test_another_package_of_our_name_is_named(module: str, name: str, tmp_path: Path) -> None:
    if module.partition(".")[0] == name:
        pytest.skip("then it is theirs that runs")
    (tmp_path / "site" / name).mkdir(parents=True)
    (tmp_path / "site" / name / "__init__.py").write_text("raise ValueError('not ours')")
    done = python(tmp_path, "-m", module, "--help", path=os.pathsep.join([str(tmp_path / "site"), str(ROOT)]))
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"{tmp_path / 'site' / name}, of our name but not ours; expected {ROOT / name}" in done.stderr


def test_in_a_checkout_commands_run_as_ever() -> None:
    done = python(ROOT, "-m", "traces", "--help", path="")
    assert (done.returncode, done.stderr) == (0, "")
