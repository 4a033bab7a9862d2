"""The wheel holds one package, so that installing or removing it touches nobody's `traces` or `probes`."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OTHERS = ("probes", "traces")


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, beside packages of the names of others that cannot be imported."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    for name in OTHERS:
        (folder / "site" / f"{name}.py").write_text(f"raise ImportError('{name} of another was imported')\n")
    return folder / "site"


def run(unpacked: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONSAFEPATH": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *words], cwd=unpacked.parent, env=environment, capture_output=True, text=True, timeout=120
    )


@pytest.mark.slow
def test_the_wheel_brings_one_package_with_all_its_files(unpacked):
    folders = {path.name for path in unpacked.iterdir() if path.is_dir()}
    assert {name for name in folders if not name.endswith(".dist-info")} == {"diag"}
    in_checkout = ["git", "ls-files", "diag", *OTHERS]
    listed = subprocess.run(in_checkout, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    expected = {path if path.startswith("diag/") else f"diag/{path}" for path in listed}
    files = {str(path.relative_to(unpacked)) for path in (unpacked / "diag").rglob("*.*") if path.suffix != ".pyc"}
    assert files == expected
    assert "tf-lockstep = diag.__main__:main" in next(unpacked.glob("*.dist-info/entry_points.txt")).read_text()
    for path in (unpacked / "diag").rglob("*.py"):
        imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        assert not [node.module for node in imports if str(node.module).partition(".")[0] in OTHERS], path


@pytest.mark.slow
def test_every_module_of_the_wheel_is_imported_and_every_command_starts(unpacked):
    modules = [path.relative_to(unpacked).with_suffix("") for path in (unpacked / "diag").rglob("*.py")]
    names = [".".join(path.parts).removesuffix(".__init__") for path in modules if path.name != "started"]
    done = run(unpacked, "-c", "\n".join(f"import {name}" for name in sorted(names)))
    assert done.returncode == 0, done.stderr
    for words in (["diag.traces", "ls"], ["diag.probes"], ["diag", "traces"], ["diag", "probes"], ["diag", "lockstep"]):
        done = run(unpacked, "-m", *words, "--help")
        assert (done.returncode, done.stderr) == (0, ""), words
        assert "python -m traces" not in done.stdout and "python -m probes" not in done.stdout
    model = f"{ROOT / 'tests/zoo.py'}:mlp"
    flags = ("--candidate", "sim:tf32", "--steps", "1", "--quiet", "--out", str(unpacked.parent / "run"))
    assert run(unpacked, "-m", "diag.lockstep", "--model", model, *flags).returncode == 1
    assert run(unpacked, "-m", "diag.replay", str(unpacked.parent / "run/trace.h5"), "--step", "0").returncode == 0
