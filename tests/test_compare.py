"""`python -m diag.compare`: what it prints, its exit codes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from diag import compare
from tests import traced


@pytest.fixture(scope="module")
def cpu() -> Path:
    return traced.cpu()


@pytest.fixture(scope="module")
def tf32() -> Path:
    return traced.tf32()


def test_a_divergence_is_exit_code_one_and_the_report_is_that_of_a_live_run(
    cpu: Path, tf32: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report.json"
    page = tmp_path / "report.html"
    assert compare.main([str(cpu), str(tf32), "--json", "--out", str(out), "--html", str(page)]) == 1
    printed = capsys.readouterr().out
    assert printed == out.read_text() and "Divergence at step" in page.read_text()
    report, live = json.loads(printed), json.loads((tf32.parent / "report.json").read_text())
    assert report["schema"] == live["schema"] == "lockstep-report/1"
    required = {"verdict", "first_divergence", "divergences", "first_bit_difference", "steps", "lanes", "files"}
    assert required <= report.keys() and report["verdict"] == "divergence"
    assert str(tf32) in report["lanes"]["candidate"]["place"]


@pytest.mark.parametrize("width", [80, pytest.param(120, marks=pytest.mark.slow)])
def test_no_line_is_wider_than_the_console_and_no_name_is_folded(
    cpu: Path, tf32: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    assert compare.main([str(cpu), str(tf32)]) == 1
    lines = capsys.readouterr().out.splitlines()
    commands = [line for line in lines if line.lstrip().startswith("python -m")]
    assert len(commands) == 2
    assert all(len(line) <= width for line in lines if line not in commands)
    named = [line for line in lines if " backward " in line or " optimizer " in line]
    assert named and all(line.rstrip()[-1] in "0123456789-%" for line in named)  # a folded row has no figures


def test_the_same_bits_are_said_in_a_sentence(cpu: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main([str(cpu), str(cpu)]) == 0
    said = capsys.readouterr().out
    assert "The traces agree bit for bit" in said and "3 steps" in said and "NOTHING" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{missing}", "{cpu}"], "There is no trace"),
        (["{cpu}", "{text}"], "is no trace"),
        (["{cpu}", "{cut}"], "truncated"),
        (["{cpu}", "{newer}"], "schema"),
        (["{cpu}", "{cpu}", "--out", "{text}"], "exists already"),
        (["{cpu}", "{cpu}", "--out", "{folder}/nowhere/a.json"], "no folder"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_line(
    cpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    files = unreadable(cpu, tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert compare.main([argument.format(cpu=cpu, folder=tmp_path, **files) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert words in captured.err and captured.err.count("\n") == 1 and not captured.out
    assert sorted(tmp_path.rglob("*")) == before


def unreadable(trace: Path, folder: Path) -> dict[str, Path]:
    """Files that are no traces of this version, or not whole."""
    import h5py

    files = {name: folder / f"{name}.h5" for name in ("missing", "text", "cut", "newer")}
    files["text"].write_text("no trace")
    files["cut"].write_bytes(trace.read_bytes()[:100_000])
    files["newer"].write_bytes(trace.read_bytes())
    with h5py.File(files["newer"], "r+") as file:
        file.attrs["schema"] = "lockstep-trace/99"
    return files


@pytest.mark.parametrize("arguments", [[], ["a.h5"], ["a.h5", "b.h5", "--lane-a", "twin"], ["a.h5", "b.h5", "--x"]])
def test_usage_is_refused_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        compare.main(arguments)
    assert ended.value.code == 2 and capsys.readouterr().err.count("\n") == 1
