"""`--twins`, end to end: what it says of rounding, of a fault, and of what nothing explains."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from diag import lockstep
from diag.errors import UserError
from diag.options import follow_and_twins

ZOO = Path(__file__).with_name("zoo.py")
KEYS = {"outcome", "inconclusive", "sentence", "left", "looked_closer", "steps", "envelope", "candidate", "twins"}

FAULTS = """
import numpy as np

def glitch(call):
    # once, in the whole step, and never again: nothing that is run a second time shows it
    if call.step == 2 and call.phase == "optimizer" and call.op_type == "AssignSubVariableOp":
        if "done" not in call.memory:
            call.memory["done"] = True
            return [call.outputs[0] + np.float32(0.01)]

def on_its_own_path(call):
    # wrong only for a bias that the candidate alone has: it once rounded it another way
    if call.step == 0 and call.variable == "hidden/bias" and "Assign" in call.op_type and "mark" not in call.memory:
        other = call.outputs[0].copy()
        if other.shape == (8,) and call.op_type == "AssignSubVariableOp":
            other[0] += np.float32(3e-9)
            call.memory["mark"] = other[0]
            return [other]
    if call.op_type == "BiasAdd" and call.inputs[1][0] == call.memory.get("mark"):
        return [call.outputs[0] * np.float32(0.5)]
"""

DATA = """
import numpy as np

def numbers():
    random = np.random.default_rng(0)
    return random.normal(size=(24, 5)).astype("float32"), np.arange(24, dtype="int32") % 3
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("twins")
    (folder / "faults.py").write_text(FAULTS)
    (folder / "data.py").write_text(DATA)
    return folder


@pytest.fixture
def run(files: Path, tmp_path: Path) -> Iterator[Callable[..., tuple[int, str, dict[str, Any]]]]:
    def run(*arguments: str) -> tuple[int, str, dict[str, Any]]:
        out, err = io.StringIO(), io.StringIO()
        given = ["--model", f"{ZOO}:perceptron", "--data", f"{files}/data.py:numbers", "--batch-size", "8",
                 "--quiet", "--verbose", "--dump", "none", "--out", str(tmp_path / "out"), *arguments]  # fmt: skip
        with redirect_stdout(out), redirect_stderr(err):
            code = lockstep.main(given)
        if code not in (0, 1):
            return code, err.getvalue(), {}
        return code, " ".join(out.getvalue().split()), json.loads((tmp_path / "out" / "report.json").read_text())

    yield run


def test_rounding_grows_like_chaos(run):
    code, said, report = run("--steps", "4", "--twins", "3", "--candidate", "CPU:0/xla")
    assert (code, report["verdict"]) == (0, "rounding")
    found = report["twins"]
    assert set(found) == KEYS
    assert (found["outcome"], found["inconclusive"], found["left"]) == ("like-chaos", False, None)
    assert found["steps"] == [0, 1, 2, 3]
    assert [len(curve["distance"]) for curve in (found["candidate"], *found["twins"])] == [4] * 4
    assert all(2**-24 < twin["start"] < 2**-23 for twin in found["twins"])
    assert "Grows like chaos: over 4 steps the candidate stays as near the reference as one rounding explains" in said
    assert "o candidate : 3 copies of the reference, each changed by one rounding - what they explain" in said
    assert "--follow free" not in said  # it is followed freely already
    assert [each["variable"] for each in report["updates"]] == [
        "hidden/kernel", "hidden/bias", "logits/kernel", "logits/bias",
    ]  # fmt: skip
    assert "Adam's updates, element by element, against float64 truth" in said


def test_a_fault_leaves_the_envelope_and_is_named(run):
    """The gradient of a fused Dense is wrong from the first step: Adam moves a weight by 1e-3, not by 1e-8."""
    code, said, report = run("--steps", "3", "--twins", "3", "--candidate", "sim:metal-fused-dense")
    found = report["twins"]
    assert (code, found["outcome"], found["inconclusive"]) == (1, "outside", False)
    assert found["left"]["step"] == 0 and found["left"]["factor"] > 100
    assert found["looked_closer"] is None  # the unit was known already
    assert "a divergence, not chaos." in said
    reached = found["candidate"]["distance"][0] / found["envelope"][0]
    assert found["left"]["factor"] == pytest.approx(reached, rel=1e-12)


def test_what_nothing_explains_is_inconclusive(run, files):
    """A weight is wrong once, and never when it is looked at: no unit is at fault, and no chaos either."""
    code, said, report = run("--steps", "4", "--twins", "3", "--candidate", f"sim:{files}/faults.py:glitch")
    found = report["twins"]
    assert (code, report["verdict"], report["divergences"]) == (0, "rounding", [])
    assert (found["outcome"], found["inconclusive"]) == ("outside", True)
    assert (found["left"]["step"], found["looked_closer"]) == (2, 2)
    assert "and yet more than chaos. Inconclusive: the candidate is further away than one rounding explains" in said
    assert "what it did there cannot be reproduced" in said
    assert "--twins 9" in said.split("Do now")[1]


def test_a_fault_on_the_candidates_path_alone_is_found_by_looking_there(run, files):
    """The reference's weights never show it; the candidate's own do."""
    code, _, report = run("--steps", "3", "--twins", "3", "--candidate", f"sim:{files}/faults.py:on_its_own_path")
    first = report["first_divergence"]
    assert (code, first["step"], first["op_type"], first["layer"]) == (1, 1, "BiasAdd", "hidden")
    assert report["twins"]["looked_closer"] == 1


def asked(*arguments: str) -> tuple[str, int]:
    return follow_and_twins(lockstep.parser().parse_args([*arguments]))


def test_twins_follow_freely_and_following_freely_brings_three():
    assert asked() == ("reference", 0)
    assert asked("--twins", "5") == ("free", 5)
    assert asked("--follow", "free") == ("free", 3)
    assert asked("--follow", "free", "--twins", "0") == ("free", 0)
    assert asked("--follow", "candidate") == ("candidate", 0)
    assert asked("--follow", "candidate", "--twins", "0") == ("candidate", 0)


@pytest.mark.parametrize(
    "arguments, expected",
    [(("--twins", "3", "--follow", "reference"), "--twins 3 with --follow reference"),
     (("--twins", "2", "--follow", "candidate"), "take --follow free")],
)  # fmt: skip
def test_refusals_are_one_line(run, arguments, expected):
    code, said, _ = run("--steps", "1", "--candidate", "CPU:0", *arguments)
    assert code == 2
    assert expected in said and said.count("\n") == 1


def test_a_recorded_reference_has_no_twins():
    with pytest.raises(UserError, match="a recorded one cannot be"):
        asked("--reference", "trace:a.h5", "--twins", "3")
    assert asked("--reference", "trace:a.h5", "--follow", "free") == ("free", 0)


@pytest.mark.parametrize("given", ["-1", "many", "1.5"])
def test_a_number_of_twins_is_whole_and_not_negative(given, capsys):
    with pytest.raises(SystemExit) as stopped:
        lockstep.main(["--twins", given])
    assert stopped.value.code == 2
    assert f"received '{given}'" in capsys.readouterr().err
