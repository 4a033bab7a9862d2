"""The architecture as tests: imports point down, start-up loads no TensorFlow, and the docs name what exists."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("diag", "probes", "traces")
COMMANDS = ("diag.lockstep", "diag.replay", "diag.compare", "diag.attribute", "diag.graph", "diag.doctor", "diag.study")
DOCS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

# ---- imports


def lint_imports(root: Path) -> subprocess.CompletedProcess[str]:
    """The contracts of pyproject.toml, checked on the packages below a folder."""
    code = "import sys; from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_every_import_points_down():
    checked = lint_imports(ROOT)
    assert checked.returncode == 0, checked.stdout
    assert "Contracts: 3 kept, 0 broken." in checked.stdout


@pytest.mark.parametrize(
    "file, planted",
    [
        ("diag/engine/graphs/graph.py", "diag.engine.runs.run"),
        ("diag/verdict/ladder.py", "diag.report.words"),
        ("traces/reader.py", "diag.engine.graphs.graph"),
        ("diag/numerics/ulp.py", "tensorflow"),
    ],
)
def test_a_planted_import_that_points_up_is_caught(copy, file, planted):
    path = copy / file
    path.write_text(f"{path.read_text()}\n\ndef planted() -> None:\n    import {planted}\n")
    checked = lint_imports(copy)
    assert checked.returncode == 1
    module = file.removesuffix(".py").replace("/", ".")
    assert f"{module} -> {planted}" in checked.stdout


def test_a_room_without_a_place_in_the_layers_is_caught(copy):
    (copy / "diag/engine/attic").mkdir()
    (copy / "diag/engine/attic/__init__.py").touch()
    checked = lint_imports(copy)
    assert checked.returncode == 1
    assert "attic" in checked.stdout


def test_git_ignores_no_file_of_the_packages():
    """What git ignores, hatchling leaves out of the wheel."""
    listing = ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "--", *PACKAGES, "tests"]
    done = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git repository")
    assert [path for path in done.stdout.splitlines() if path.endswith(".py")] == []


# ---- names


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            found = (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef))
            for node in found:
                places.setdefault(node.name, []).append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert len(places) > 200
    assert {name: where for name, where in places.items() if len(where) > 1} == {}


# ---- start-up

NOT_LOADED = "assert not {'tensorflow', 'keras'} & set(sys.modules), sorted(sys.modules)"


def modules_of(*folders: str) -> list[str]:
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in files
        if path.stem != "__main__"
    ]


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)


def test_numbers_are_judged_and_files_are_read_without_tensorflow():
    names = modules_of("diag/numerics", "diag/verdict", "diag/causes", "diag/common", "traces")
    assert len(names) > 50
    imports = "\n".join(f"import {name}" for name in names)
    done = run_python(f"import sys\n{imports}\n{NOT_LOADED}")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [*COMMANDS, "probes", "traces", "diag"])
def test_help_loads_nothing_slow(command):
    code = f"""
import runpy, sys
sys.argv = ["command", "--help"]
try:
    runpy.run_module({command!r}, run_name="__main__", alter_sys=True)
except SystemExit as exit:
    assert exit.code == 0, exit.code
{NOT_LOADED}
assert not {{"numba", "pandas", "matplotlib", "scipy"}} & set(sys.modules)  # 0.3 s each
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert f"usage: {'tf-lockstep' if command == 'diag' else f'python -m {command}'}" in done.stdout


# ---- docs

PATH_IN_TEXT = re.compile(r"(?<![\w/.-])((?:diag|probes|traces|tests|docs|benchmarks)/[\w./-]*[\w/])")
MODULE_IN_TEXT = re.compile(r"(?<![\w./-])((?:diag|probes|traces)(?:\.[a-z_0-9]+)+)(?![\w(])")


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_path_that_the_docs_name_exists(document):
    text = document.read_text()
    paths = {found.rstrip(".") for found in PATH_IN_TEXT.findall(text)}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCS, ids=lambda path: path.name)
def test_every_module_that_the_docs_name_exists(document):
    def exists(module: str) -> bool:
        parts = module.split(".")
        for length in (len(parts), len(parts) - 1):  # the last part may be a name in the module
            path = ROOT.joinpath(*parts[:length])
            if path.with_suffix(".py").exists() or path.is_dir():
                return True
        return False

    modules = set(MODULE_IN_TEXT.findall(document.read_text()))
    assert [module for module in sorted(modules) if not exists(module)] == []
