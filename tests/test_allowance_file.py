"""A user's own allowances: what is refused in one line, what is put in force, what a run makes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from diag import lockstep
from diag.allowance_file import put_in_force, read
from diag.errors import UserError
from diag.numerics.allowances import in_force, use
from diag.numerics.op_classes import ErrorClass, class_of

TABLE = """
[[allowances]]
place = "tensorflow-cpu"
dtypes = ["float32"]
source = "measured on my machine"
[allowances.ulp]
Tanh = 40
"""
FAULT = """
import numpy as np

def tanh(call):
    if call.op_type == "Tanh" and call.phase == "forward":
        x = call.outputs[0]
        return [x + 8 * np.spacing(np.abs(x))]
"""
ZOO = Path(__file__).with_name("zoo.py")


@pytest.fixture(autouse=True)
def shipped_again() -> Iterator[None]:
    yield
    use(())


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (TABLE.replace("[[allowances]]", "[[allowance]]"), "docs/BOUNDS.md has an example"),
        (TABLE.replace("Tanh", "MatMul"), "MatMul is judged in units of"),
        (TABLE.replace("Tanh", "Relu"), "Relu has to give equal bits"),
    ],
)
def test_a_bad_file_is_refused_before_anything_runs(tmp_path, text, says):
    with pytest.raises(UserError, match=says):
        read(written(tmp_path, text))
    with pytest.raises(UserError, match="No such file"):
        read(tmp_path / "none.toml")


def test_an_op_that_tensorflow_does_not_have_is_refused(tmp_path):
    path = written(tmp_path, TABLE.replace("Tanh", "Tahn"))
    with pytest.raises(UserError, match="TensorFlow has no op 'Tahn'"):
        put_in_force(path, read(path))


def test_what_is_put_in_force_is_said(tmp_path):
    path = written(tmp_path, TABLE + "Exp = 2\nSelu = 9\nSin = 3\n")
    (note,) = put_in_force(path, read(path))
    assert "Tanh float32 at tensorflow-cpu 40 ULP (measured on my machine)" in note and note.endswith("and 1 more")
    assert in_force().at("Tanh", "float32", "tensorflow-cpu").ulp == 40
    assert class_of("Selu") is ErrorClass.FUNCTION  # a composite otherwise
    assert put_in_force(None, ()) == [] and class_of("Selu") is ErrorClass.COMPOSITE


def test_a_run_is_judged_by_them_and_says_so(tmp_path, capsys):
    place = tmp_path / "fault.py"
    place.write_text(FAULT)
    given = ["--model", f"{ZOO}:mlp", "--steps", "1", "--candidate", f"sim:{place}:tanh", "--dump", "none",
             "--no-attribute", "--quiet"]  # fmt: skip
    assert lockstep.main([*given, "--out", str(tmp_path / "shipped")]) == 1
    report = json.loads((tmp_path / "shipped" / "report.json").read_text())
    assert report["first_divergence"]["op_type"] == "Tanh"
    excess = report["first_divergence"]["excess"]
    # 8 ULP and what the kernel is off by itself, over 6
    assert 8 / 6 - 0.2 < excess < np.nextafter((8 + 6) / 6, 3)
    capsys.readouterr()
    allowed = ["--verbose", "--allowances", str(written(tmp_path, TABLE)), "--out", str(tmp_path / "mine")]
    assert lockstep.main([*given, *allowed]) == 0
    assert "allowances taken from" in capsys.readouterr().out
