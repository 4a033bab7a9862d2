"""Scripts as users write them, each run by `diag.run` unchanged and held against its own `fit`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import pytest

from diag import run
from diag.engine.training.fit_calls import take_back

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = REPOSITORY / "tests" / "scripts"


@dataclass(frozen=True)
class Case:
    """A script, steps of its first epoch, and where its own fit shows the losses of the lockstep.

    metrics: of the metrics that its step updates, those that have the same bits; that of a loss that is watched may be
    rounded otherwise, since TensorFlow adds up in another order what nobody looks at.
    """

    script: str
    steps: int
    shown: tuple[str, ...] = ("loss",)
    flags: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()


CASES = [
    Case("dataset.py", 4, flags=("--and-train",)),  # a parallel map that augments gives other images each time
    Case("generator.py", 4),
    Case("pydataset.py", 5),
    Case("vae.py", 2, metrics=("reconstruction_loss/total", "kl_loss/total", "kl_loss/count")),
    Case("gan.py", 3, ("d_loss", "g_loss"), metrics=("d_loss/total", "d_loss/count", "g_loss/total")),
    Case(
        "contrastive.py",
        3,
        ("c_loss", "p_loss"),
        metrics=("c_loss/total", "c_loss/count", "p_loss/total", "p_loss/count", "p_acc/total", "p_acc/count"),
    ),
    Case("wgan_gp.py", 3, ("c_loss", "g_loss")),
    Case("accumulate.py", 4, metrics=("loss/total", "loss/count", "compile_metrics/total")),
    Case("pinn.py", 4),
    Case("transformer.py", 3),
    Case("multi_output.py", 2),
    Case("table.py", 4),
    Case("command_line.py", 3, arguments=("--lr", "0.05", "out.txt")),
    Case("torch_loader.py", 3),
]
OFTEN = ("dataset.py",)  # the others with `pytest -m slow`


def python(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """In a folder of its own, as from a shell."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=900
    )


def watched(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return python("-m", "diag.run", *words, folder=folder)


Here = Callable[..., tuple[int, str, str]]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Here]:
    """Runs a script in this process, where TensorFlow is loaded: its exit code, and what it wrote."""

    def ran(text: str | None, *flags: str) -> tuple[int, str, str]:
        if text is not None:
            (tmp_path / "script.py").write_text(text)
        monkeypatch.chdir(tmp_path)
        capsys.readouterr()
        return (run.main([*flags, "script.py"]), *capsys.readouterr())

    methods = keras.layers.Layer.__new__, keras.layers.Layer.__call__
    yield ran
    take_back()
    keras.layers.Layer.__new__, keras.layers.Layer.__call__ = methods


def refused(ended: tuple[int, str, str]) -> str:
    code, _, err = ended
    assert code == 2 and err.startswith("run: ") and err.count("\n") == 1
    assert not Path("runs").exists()
    return err


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, marks=() if each.script in OFTEN else pytest.mark.slow) for each in CASES],
    ids=lambda case: case.script,
)
def test_the_reference_trains_as_fit_does_bit_for_bit(case: Case, tmp_path: Path) -> None:
    if "torch" in case.script:
        pytest.importorskip("torch")
    flags = ("--candidate", "CPU:0/eager", "--units", "step", "--dump", "all", *case.flags)
    words = (str(REPOSITORY / "tests/against_fit.py"), str(case.steps), *flags, "--", str(SCRIPTS / case.script))
    ran = python(*words, *case.arguments, folder=tmp_path)
    assert ran.returncode == 0, ran.stderr[-2000:]
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert found["code"] == 0 and found["verdict"] in ("identical", "rounding")
    assert len(found["losses"]) == case.steps == len(found["logs"])
    assert found["weights"] and all(found["weights"])
    if case.script != "vae.py":  # whose logs have the one loss in a sum
        assert set(case.shown) <= set(found["shown_in_logs"]), (found["losses"], found["others"], found["logs"])
    assert all(found["metrics"][f"metrics/{name}"] for name in case.metrics), found["metrics"]
    files = ["log.csv"] if "--and-train" in case.flags else []
    assert found["files"] == files


def test_the_script_ends_at_its_fit(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("")
    (tmp_path / "mine" / "helpers.py").write_text((SCRIPTS / "helpers.py").read_text())
    text = (SCRIPTS / "command_line.py").read_text().replace("from helpers", "from mine.helpers")
    (tmp_path / "mine" / "train.py").write_text(text)
    flags = ("--candidate", "sim:tf32", "--no-attribute", "--verbose", "--out", "run")
    ran = watched(*flags, "-m", "mine.train", "--steps", "4", "out.txt", folder=tmp_path)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert ran.returncode == 1 and report["verdict"] == "divergence"
    assert report["steps"] == 4  # all that its fit has
    assert report["lanes"]["reference"]["place"] == "CPU:0/graph"
    text = " ".join(ran.stdout.split())
    assert "4 steps instead of 20: fit has no more" in text
    assert (
        "python -m diag.run --candidate sim:tf32 --no-attribute --verbose --follow candidate -m mine.train --steps 4"
        in text
    )
    assert {path.name for path in tmp_path.iterdir()} == {"mine", "run"}
    assert "training failed" not in ran.stderr


def test_it_goes_on_with_the_script_as_if_nothing_had_been(tmp_path: Path) -> None:
    script, words = str(SCRIPTS / "command_line.py"), ("--lr", "0.05", "out.txt")
    plain = python(script, *words, folder=tmp_path)
    alone = (tmp_path / "out.txt").read_text()
    assert plain.returncode == 0
    (tmp_path / "out.txt").unlink()
    ran = watched(
        "--and-train", "--json", "--steps", "3", "--candidate", "CPU:0", "--out", "run", script, *words, folder=tmp_path
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert (tmp_path / "out.txt").read_text() == alone
    assert json.loads(ran.stdout)["steps"] == 3  # what the script prints goes to stderr


@pytest.mark.parametrize(
    ("text", "flags", "said"),
    [
        ("import keras\n", (), "script.py ended after 0 calls of fit, 1 wanted: expected a call of fit"),
        ("x = 1\nraise KeyError('mine')\n", (), "script.py raised KeyError: 'mine' (line 2)"),
        ("import sys\nsys.exit(5)\n", (), "script.py ended after 0 calls of fit, 1 wanted, with exit code 5"),
        ("", ("--candidate", "GPU:7x"), "'GPU:7x' is no place"),
        ("", ("--reference", "trace:a.h5"), "a recorded step needs no script"),
        (None, (), "script.py: there is no such file"),
    ],
)
def test_what_cannot_be_run_is_one_line(text: str | None, flags: tuple[str, ...], said: str, here: Here) -> None:
    assert said in refused(here(text, *flags))


def test_what_cannot_be_run_is_one_line_of_a_process(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("x = 1\nraise KeyError('mine')\n")
    ran = watched("script.py", folder=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", "run: script.py raised KeyError: 'mine' (line 2)\n")


FITS = """
import keras
import numpy as np
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
model.compile("sgd", "mse")
x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
"""


def test_the_call_that_is_named_is_looked_at(here: Here) -> None:
    lines = [FITS, "model.fit(x, y, batch_size=2)", "print(model.optimizer.iterations.numpy(), 'before')"]
    lines += ["try:", "    model.train_on_batch(x, y)", "except Exception:", "    print('mine')", "print('after')"]
    code, out, err = here("\n".join(lines), "--call", "2", "--candidate", "CPU:0", "--out", "run")
    assert code == 0, err
    assert "script.py: 1 batches of train_on_batch" in out
    assert "4 before" in out and "after" not in out and "mine" not in out


@pytest.mark.filterwarnings("ignore:`shuffle=True` was passed:UserWarning")
@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("model.fit(x, y[:3])", "fit itself would not train: ValueError: Data cardinality is ambiguous"),
        ("model.fit(pair for pair in ())", "the generator must yield at least one batch"),
        ("model.fit(x, y, epochs=0)", "fit was given no batch"),
    ],
)
def test_data_that_fit_could_not_train_on_are_one_line(call: str, said: str, here: Here) -> None:
    assert said in refused(here(f"import tensorflow as tf\n{FITS}\n{call}\n", "--candidate", "CPU:0"))
