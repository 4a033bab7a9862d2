"""Notebooks, run as `jupyter nbconvert --execute` does; they want nbclient and ipykernel, and are skipped without."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.against_fit import running_means
from traces.reader import TraceReader

pytest.importorskip("nbclient")
pytest.importorskip("ipykernel")
nbformat = pytest.importorskip("nbformat")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]  # of Jupyter's own
ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "lockstep.ipynb"


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


def test_a_notebook_that_watches_its_fit_trains_as_the_reference_did(tmp_path: Path) -> None:
    from benchmarks.notebook import executed, shown

    text = shown(executed(ROOT / "tests/scripts/notebook.ipynb", tmp_path))
    with TraceReader(tmp_path / "run" / "trace.h5") as trace:
        losses = trace.losses["reference"].tolist()
    trained = text.splitlines()[-1].split()
    assert trained[:3] == ["trained", "4", "steps:"]
    assert [float(word) for word in trained[3:]] == running_means(losses, [16] * 4)
    assert "a notebook: 4 batches of fit" in " ".join(text.split()) and "\x1b" not in text


def test_the_notebook_of_the_documentation_shows_what_it_shows_when_it_is_run(tmp_path: Path) -> None:
    from benchmarks.notebook import executed, shown

    kept, now = (shown(n) for n in (nbformat.read(DOCUMENT, as_version=4), executed(DOCUMENT, tmp_path)))
    assert kept.splitlines()[:2] == now.splitlines()[:2] == ["'divergence'", "op 1 MatMul of wide, step 0, forward"]
    assert len(kept.splitlines()) == len(now.splitlines())
    assert DOCUMENT.stat().st_size < 100_000
