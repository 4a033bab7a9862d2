"""The main job, end to end: what is named, what is written, what is refused."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diag import lockstep
from diag.common.files import claimed
from diag.errors import UserError
from diag.lockstep_run import run_lockstep
from diag.request import request_of

ROOT = Path(__file__).parent.parent
ZOO = Path(__file__).with_name("zoo.py")
STEPS = 2

FAULTS = """
import json, pathlib
import numpy as np

def planted(phase, op_type, layer, step=1):
    seen = pathlib.Path(__file__).with_name(f"{op_type}.json")

    def fault(call):
        if (call.step, call.phase, call.op_type, call.layer) != (step, phase, op_type, layer):
            return None
        call.memory.setdefault("indices", set()).add(call.index)
        seen.write_text(json.dumps(sorted(call.memory["indices"])))
        wrong = call.outputs[0].copy()
        wrong.flat[0] += 1
        return [wrong]
    return fault

relu = planted("forward", "Relu", "dense")
filter_gradient = planted("backward", "Conv2DBackpropFilter", "conv")
root = planted("optimizer", "Sqrt", "dense")
inside_the_loop = planted("forward", "Tanh", "lstm")

def not_a_number(call):
    if call.step == 1 and call.op_type == "MaxPool":
        wrong = call.outputs[0].copy()
        wrong.flat[0] = np.nan
        return [wrong]

def wrong_shape(call):
    return [call.outputs[0][:1]] if call.op_type == "Relu" else None

def wrong_number(call):
    return [] if call.op_type == "Relu" else None

def innocent(call):
    return None

def no_bias(graph):
    for node in graph.node:
        if node.op == "BiasAdd":
            node.op = "Identity"
            del node.input[1:]
            del node.attr["data_format"]

def no_graph(graph):
    return 5

def raises(graph):
    return graph.no_such_field

def cut_off(graph):
    for node in graph.node:
        if node.op == "MatMul":
            node.input[0] = "nowhere"
"""

DATA = """
import numpy as np

def tokens():
    return np.arange(70, dtype="int32").reshape(10, 7) % 20, np.arange(10, dtype="int32") % 2

def images():
    return np.random.default_rng(0).random((7, 12, 12, 3), "float32"), np.arange(7, dtype="int32") % 2

def numbers():
    return np.random.default_rng(0).random((8, 5), "float32"), np.arange(8, dtype="int32") % 3

def labels_out_of_range():
    return numbers()[0], np.arange(8, dtype="int32")

def not_a_number():
    x, y = numbers()
    x[3, 2] = np.nan
    return x, y
"""


@dataclass
class Ran:
    """One run of the command."""

    code: int
    out: str
    err: str
    folder: Path
    arguments: list[str] = field(default_factory=list)

    @cached_property
    def report(self) -> dict[str, Any]:
        assert self.code in (0, 1), self.err
        found: dict[str, Any] = json.loads((self.folder / "report.json").read_text())
        return found

    @property
    def first(self) -> dict[str, Any]:
        assert self.report["first_divergence"] is not None
        found: dict[str, Any] = self.report["first_divergence"]
        return found

    def named(self, *keys: str) -> tuple[Any, ...]:
        return tuple(self.first[key] for key in keys)

    @property
    def judged(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["lanes"]["candidate"]["judged"]
        return found


def called(arguments: list[str], folder: Path) -> Ran:
    """The command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = lockstep.main(arguments)
        except SystemExit as exit:
            code = int(exit.code or 0)
    return Ran(code, out.getvalue(), err.getvalue(), folder, arguments)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    (folder / "faults.py").write_text(FAULTS)
    (folder / "broken.py").write_text("def fault(:\n")
    (folder / "data.py").write_text(DATA)
    (folder / "models.py").write_text("def nothing():\n    return None\n")
    (folder / "empty").mkdir()
    for name in ("cats", "dogs"):
        (folder / "images" / name).mkdir(parents=True)
        (folder / "images" / name / "1.png").write_bytes(b"no image")
    return folder


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def run(tmp_path_factory, files) -> Iterator[Run]:
    """`run(model, *arguments)`; the same question is asked once. `{files}` is the folder of faults and data."""
    known: dict[tuple[str, ...], Ran] = {}

    def ask(model: str, *arguments: str, steps: int = STEPS) -> Ran:
        key = (model, *arguments, str(steps))
        if key not in known:
            folder = tmp_path_factory.mktemp("run") / "out"
            given = [text.format(files=files) for text in arguments]
            fixed = ["--model", f"{ZOO}:{model}", "--steps", str(steps), "--batch-size", "4", "--quiet"]
            known[key] = called([*fixed, *given, "--out", str(folder)], folder)
        return known[key]

    yield ask


# ---- the motivating fault, which no op-by-op tool can see


def test_with_no_gpu_the_simulated_place_is_found_out(run):
    ran = run("cnn")
    assert ran.code == 1
    assert ran.report["verdict"] == "divergence"
    assert ran.named("step", "phase", "unit", "layer", "op_type") == (0, "forward", "layer", "dense", None)
    assert ran.named("cause", "blame") == ("missing-op", "graph-rewriter")
    assert ran.first["evidence"]["missing"] == ["Relu"]
    assert ran.first["excess"] > 1000


def test_its_ops_are_all_innocent(run):
    ran = run("cnn")
    assert {divergence["unit"] for divergence in ran.report["divergences"]} == {"layer"}
    assert ran.first["evidence"]["ops_innocent"] is True
    assert ran.judged["microscope_steps"] == [0]
    assert ran.judged["op_outputs"] > 100


def test_it_says_loudly_that_the_place_is_simulated(run):
    ran = run("cnn")
    assert "SIMULATED" in ran.out
    assert ran.report["lanes"]["candidate"]["simulated"] is True
    assert ran.report["lanes"]["reference"]["simulated"] is False


def test_the_printed_report_names_it_too_and_what_to_try_next(run):
    text = " ".join(run("cnn").out.split())
    for part in ("dense", "step 0", "forward", "Relu", "report.json", "trace.h5", "--units op"):
        assert part in text


# Free lanes are those of every trace that tests/traced.py makes of a fault.
@pytest.mark.parametrize("follow", ["candidate", pytest.param("free", marks=pytest.mark.slow)])
def test_whoever_is_followed_it_is_found(run, follow):
    ran = run("cnn", "--follow", follow, steps=1)
    assert ran.named("step", "layer", "cause", "blame") == (0, "dense", "missing-op", "graph-rewriter")


def test_in_bfloat16_there_is_no_such_fault(run):
    ran = run("cnn", "--policy", "mixed_bfloat16", steps=1)
    assert (ran.code, ran.report["verdict"]) == (0, "identical")


def test_in_float16_with_loss_scaling_there_is(run):
    ran = run("cnn", "--policy", "mixed_float16", steps=1)
    assert ran.named("step", "layer", "cause", "blame") == (0, "dense", "missing-op", "graph-rewriter")


def test_eagerly_there_is_no_such_fault(run):
    ran = run("cnn", "--execution", "eager", steps=1)
    assert (ran.code, ran.report["verdict"]) == (0, "identical")


# ---- units


def test_units_step_sees_that_the_step_is_wrong_and_no_layer(run):
    ran = run("cnn", "--units", "step", steps=1)
    assert ran.named("step", "unit", "layer", "blame") == (0, "step", None, "graph-rewriter")


def test_units_op_puts_every_step_under_the_microscope(run):
    ran = run("cnn", "--units", "op", "--candidate", "CPU:0")
    assert (ran.code, ran.report["verdict"]) == (0, "identical")
    assert ran.judged["microscope_steps"] == list(range(STEPS))


# ---- a format: the first op that it touches


@pytest.mark.parametrize(
    ("model", "op_type", "layer"),
    [
        ("cnn", "Conv2D", "conv"), ("lstm", "MatMul", "lstm"),
        pytest.param("xception_block", "DepthwiseConv2dNative", "separable", marks=pytest.mark.slow),  # one kernel more
    ],
)  # fmt: skip
def test_tf32_is_named_at_the_first_product(run, model, op_type, layer):
    ran = run(model, "--candidate", "sim:tf32", steps=1)
    assert ran.code == 1
    assert ran.named("step", "phase", "unit") == (0, "forward", "op")
    assert ran.named("op_type", "layer") == (op_type, layer)
    assert ran.named("cause", "blame") == ("format:tf32-rne", "kernel")
    assert ran.first["excess"] > 5


def test_every_guilty_product_is_listed_once(run):
    found = run("cnn", "--candidate", "sim:tf32", steps=1).report["divergences"]
    locations = [(each["op_index"], each["output"]) for each in found]
    assert len(set(locations)) == len(locations)
    assert {"Conv2D", "MatMul", "Conv2DBackpropFilter"} <= {each["op_type"] for each in found}
    order = {"forward": 0, "backward": 1, "optimizer": 2}
    assert [order[each["phase"]] for each in found] == sorted(order[each["phase"]] for each in found)


# ---- no fault


@pytest.mark.parametrize("model", ["cnn", "lstm", "transformer"])
def test_a_place_agrees_with_itself(run, model):
    ran = run(model, "--candidate", "CPU:0", steps=1)
    assert (ran.code, ran.report["verdict"], ran.report["first_divergence"]) == (0, "identical", None)
    assert ran.report["first_bit_difference"] is None
    assert ran.judged["layer_outputs"] > 10
    losses = [ran.report["lanes"][lane]["loss"] for lane in ("reference", "candidate")]
    assert losses[0] == losses[1] and len(losses[0]) == 1


# Two inputs and outputs, traced and cut into units, are in tests/engine/step.
TWO_WAYS = pytest.param("two_ways", marks=pytest.mark.slow)


@pytest.mark.parametrize("model", ["lstm", "shared", "xception_block", TWO_WAYS])
def test_op_by_op_is_at_most_a_rounding_away(run, model):
    ran = run(model, "--candidate", "CPU:0/eager", "--units", "op", steps=1)
    assert ran.code == 0, ran.first
    assert ran.report["verdict"] in ("identical", "rounding")


def test_a_model_that_chooses_a_branch(run):
    ran = run("branching", "--data", "{files}/data.py:numbers", "--candidate", "CPU:0/eager")
    assert (ran.code, ran.report["verdict"]) == (0, "identical")


# With dropout the draws have to be the reference's as well; without it there is nothing more.
IN_XLA = [pytest.param("cnn", id="with dropout"), pytest.param("convolutions", id="without", marks=pytest.mark.slow)]


@pytest.mark.parametrize("model", IN_XLA)
def test_xla_only_rounds_differently(run, model):
    ran = run(model, "--candidate", "CPU:0", "--execution", "xla", steps=1)
    assert (ran.code, ran.report["verdict"]) == (0, "rounding")
    assert ran.report["lanes"]["reference"]["place"] == "CPU:0/graph"
    assert ran.report["lanes"]["candidate"]["place"] == "CPU:0/xla"
    assert ran.report["first_bit_difference"]["step"] == 0


@pytest.mark.parametrize("model", IN_XLA)
def test_the_first_bit_difference_has_its_figures(run, model):
    found = run(model, "--candidate", "CPU:0", "--execution", "xla", steps=1).report["first_bit_difference"]
    assert 0 < found["num_unequal"] <= found["size"]
    assert found["values"]["reference"] != found["values"]["candidate"]


def test_a_fault_that_never_strikes_is_no_fault(run):
    ran = run("cnn", "--candidate", "sim:{files}/faults.py:innocent", steps=1)
    assert ran.code == 0
    assert ran.report["verdict"] in ("identical", "rounding")  # what is fused elsewhere is not fused here


# ---- planted faults are named exactly


@pytest.mark.parametrize(
    ("name", "phase", "op_type", "layer"),
    [
        ("relu/graph", "forward", "Relu", "dense"),
        ("relu/eager", "forward", "Relu", "dense"),
        ("filter_gradient", "backward", "Conv2DBackpropFilter", "conv"),
        ("root", "optimizer", "Sqrt", "dense"),
    ],
)
def test_planted_faults_are_named_exactly_and_nothing_else(run, files, name, phase, op_type, layer):
    ran = run("cnn", "--candidate", f"sim:{{files}}/faults.py:{name}")
    struck = json.loads((files / f"{op_type}.json").read_text())
    assert ran.code == 1
    assert [each["op_index"] for each in ran.report["divergences"]] == struck
    for each in ran.report["divergences"]:
        assert (each["step"], each["phase"], each["op_type"], each["layer"]) == (1, phase, op_type, layer)
        assert (each["unit"], each["blame"]) == ("op", "kernel")
        assert each["cause"] == ("wrong-elements" if each["evidence"]["size"] > 1 else "unknown")
        assert set(each["evidence"]["worst"]["index"]) <= {0}


def test_a_fault_inside_a_loop(run, files):
    ran = run("lstm", "--candidate", "sim:{files}/faults.py:inside_the_loop")
    struck = json.loads((files / "Tanh.json").read_text())
    assert ran.named("step", "phase", "op_type", "layer") == (1, "forward", "Tanh", "lstm")
    assert [each["op_index"] for each in ran.report["divergences"]] == struck


def test_an_unchecked_step_that_looks_wrong_is_checked(run):
    ran = run("cnn", "--candidate", "sim:{files}/faults.py:relu", "--check-every", "2", "--verbose")
    assert ran.named("step", "op_type", "layer") == (1, "Relu", "dense")
    assert "step 1 was checked because" in " ".join(ran.out.split())


def test_what_is_not_finite(run):
    ran = run("cnn", "--candidate", "sim:{files}/faults.py:not_a_number")
    assert ran.named("step", "op_type", "layer", "cause") == (1, "MaxPool", "pool", "nonfinite")
    found = ran.report["first_nonfinite"]
    assert (found["step"], found["layer"]) == (1, "pool")


def test_a_rewriter_is_blamed_and_what_it_left_out_is_named(run):
    """Biases start at zero, so that leaving them out shows at step 1."""
    ran = run("cnn", "--candidate", "rewrite:{files}/faults.py:no_bias")
    assert ran.named("step", "phase", "unit", "layer") == (1, "forward", "layer", "conv")
    assert ran.named("cause", "blame") == ("missing-op", "graph-rewriter")
    assert ran.first["evidence"]["missing"] == ["BiasAdd"]


def test_an_update_that_is_not_written(run):
    ran = run("mlp", "--candidate", "sim:skipped-update")
    assert ran.named("step", "phase", "unit", "cause", "blame") == (
        0, "optimizer", "op", "skipped-update", "state-update",
    )  # fmt: skip
    assert ran.first["op_type"] == "AssignSubVariableOp"
    assert ran.first["variable"].startswith(f"{ran.first['layer']}/")


def test_a_frozen_random_stream_shows_at_the_second_step(run):
    ran = run("cnn", "--candidate", "sim:rng-frozen")
    assert ran.named("step", "layer", "cause", "blame") == (1, "dropout", "random-stream", "random-stream")
    assert "Random" in ran.first["op_type"]


# ---- data


def test_a_smaller_last_batch(run):
    """Seven images in batches of four: the second step has three."""
    ran = run("cnn", "--data", "{files}/data.py:images", "--candidate", "CPU:0", steps=3)
    assert (ran.code, ran.report["verdict"]) == (0, "identical")
    assert len(ran.report["lanes"]["candidate"]["loss"]) == 3


@pytest.mark.parametrize(("model", "policy"), [("lstm", "mixed_float16"), ("cnn", "mixed_bfloat16")])
def test_mixed_precision(run, model, policy):
    ran = run(model, "--policy", policy, "--candidate", "CPU:0/eager", steps=1)
    assert ran.code == 0, ran.first
    assert ran.report["lanes"]["candidate"]["place"] == f"CPU:0/eager/{policy}"


# ---- report.json is a contract

DIVERGENCE = {
    "step", "phase", "unit", "op_type", "op_index", "output", "layer", "variable", "cause", "blame", "excess",
    "cured_by", "evidence",
}  # fmt: skip


@pytest.mark.parametrize("candidate", [None, "CPU:0"])
def test_the_keys_of_the_contract(run, candidate):
    ran = run("cnn", *([] if candidate is None else ["--candidate", candidate]), steps=2 if candidate is None else 1)
    report = ran.report
    assert {
        "schema", "verdict", "first_divergence", "divergences", "first_bit_difference", "first_nonfinite", "amplifiers",
        "steps", "lanes", "files", "tool", "command", "created", "seconds", "model", "data", "notes", "path", "worst",
    } == set(report)  # fmt: skip
    assert report["schema"] == "lockstep-report/1"
    assert report["steps"] == len(report["lanes"]["reference"]["loss"])
    assert set(report["lanes"]) == {"reference", "candidate"}
    for lane in report["lanes"].values():
        assert {"place", "tensorflow", "keras", "numpy", "python", "device", "execution", "policy"} <= set(lane)
    assert Path(report["files"]["trace"]).is_file()
    for each in report["divergences"]:
        assert set(each) == DIVERGENCE
    assert report["first_divergence"] == (report["divergences"] or [None])[0]


def test_the_trace_can_be_read(run):
    h5py = pytest.importorskip("h5py")
    with h5py.File(run("cnn").folder / "trace.h5") as trace:
        assert len(trace) > 0


def test_json_prints_the_report_and_nothing_else(run):
    ran = run("mlp", "--candidate", "CPU:0", "--json", steps=1)
    assert json.loads(ran.out) == ran.report
    assert ran.err == ""


# ---- questions that cannot be asked


def refused(ran: Ran) -> str:
    """One line on stderr, exit code 2, nothing on stdout, nothing written; gives the line."""
    assert ran.code == 2, ran.err
    assert ran.out == ""
    assert ran.err.count("\n") == 1 and ran.err.endswith("\n"), ran.err
    assert "Traceback" not in ran.err
    assert not ran.folder.exists(), list(ran.folder.iterdir())
    return ran.err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--model", "{files}/missing.py:model"], ["--model", "missing.py"]),
        (["--model", "{files}/models.py:nothing"], ["NoneType", "keras.Model"]),
        (["--model", "{files}/models.py"], ["names no function"]),
        (["--data", "{files}/data.py:labels_out_of_range"], ["labels", "out of range", "0 to 2"]),
        (["--data", "{files}/data.py:not_a_number"], ["NaN", "(3, 2)"]),
        (["--model", f"{ZOO}:cnn", "--data", "{files}/empty"], ["empty folder"]),
        (["--model", f"{ZOO}:cnn", "--data", "{files}/images"], ["1.png", "cannot be read"]),
        (["--steps", "0"], ["--steps", "at least 1", "'0'"]),
        (["--steps", "two"], ["--steps", "'two'"]),
        (["--batch-size", "-1"], ["--batch-size"]),
        (["--candidate", "TPU"], ["'TPU' is no place", "DEVICE[/EXECUTION][/POLICY]"]),
        (["--candidate", "CPU:0/fast"], ["CPU:0/fast"]),
        (["--candidate", "GPU:7"], ["no GPU:7", "CPU:0"]),
        (["--candidate", "sim:nonsense"], ["sim:nonsense is unknown", "metal-fused-dense"]),
        (["--candidate", "rewrite:tf32"], ["FILE.py:FUNCTION"]),
        (["--candidate", "sim:{files}/broken.py:fault"], ["broken.py", "SyntaxError", "line 1"]),
        (["--candidate", "sim:{files}/faults.py:absent"], ["absent", "relu"]),
        (["--candidate", "CPU:0/mixed_float16"], ["policies", "--policy"]),
        (["--out", "{files}/data.py/run"], ["data.py", "is no folder"]),
        (["--no-such-flag"], ["--no-such-flag", "--help"]),
        (["--candidate", "sim:{files}/faults.py:wrong_shape/eager"], ["expected shape (4, 8)", "(1, 8)"]),
        (["--candidate", "sim:{files}/faults.py:wrong_shape"], ["expected shape (4, 8)", "(1, 8)"]),
        (["--candidate", "sim:{files}/faults.py:wrong_number/eager"], ["list of 1 arrays"]),
        (["--candidate", "rewrite:{files}/faults.py:no_graph"], ["GraphDef", "int"]),
        (["--candidate", "rewrite:{files}/faults.py:raises"], ["raises raised AttributeError"]),
        (["--candidate", "rewrite:{files}/faults.py:cut_off"], ["can import", "nowhere"]),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_asked(tmp_path, files, arguments, parts):
    given = [text.format(files=files) for text in arguments]
    fixed = ["--model", f"{ZOO}:mlp", "--steps", "1", "--batch-size", "4", "--out", str(tmp_path / "out")]
    line = refused(called([*fixed, *given], tmp_path / "out"))
    for part in parts:
        assert part in line


def test_an_earlier_run_is_never_overwritten(tmp_path):
    (tmp_path / "trace.h5").write_text("of an earlier run")
    ran = called(["--model", f"{ZOO}:mlp", "--steps", "1", "--out", str(tmp_path)], tmp_path / "none")
    assert "already holds trace.h5" in refused(ran)
    assert [file.name for file in tmp_path.iterdir()] == ["trace.h5"]
    assert (tmp_path / "trace.h5").read_text() == "of an earlier run"


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root can write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        ran = called(["--model", f"{ZOO}:mlp", "--out", str(tmp_path / "out")], tmp_path / "out")
        assert "cannot be written" in refused(ran)
    finally:
        tmp_path.chmod(0o700)


# ---- as a person runs it


def command(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # a person has not set it
    return subprocess.run(
        [sys.executable, "-m", "diag.lockstep", *arguments], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def test_the_command_writes_under_runs_and_exits_with_1(tmp_path):
    done = command("--model", f"{ZOO}:perceptron", "--steps", "1", "--batch-size", "4", "--json", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    report = json.loads(done.stdout)
    assert (report["first_divergence"]["layer"], report["first_divergence"]["cause"]) == ("hidden", "missing-op")
    (folder,) = (tmp_path / "runs").iterdir()
    assert {file.name for file in folder.iterdir()} >= {"trace.h5", "report.json"}
    assert json.loads((folder / "report.json").read_text()) == report


@pytest.mark.slow  # the line is seen above, and a process that says no more than it has to before this
def test_the_command_refuses_in_one_line(tmp_path):
    done = command("--model", f"{ZOO}:mlp", "--candidate", "GPU:7", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "no GPU:7" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_another_seed_is_another_run(run):
    given = ("mlp", "--candidate", "CPU:0", "--units", "step", "--seed")
    losses = [run(*given, seed, steps=1).report["lanes"]["reference"]["loss"] for seed in ("0", "1")]
    assert np.all(np.isfinite(losses)) and losses[0] != losses[1]


def test_the_second_of_two_runs_into_one_folder_is_refused_and_takes_nothing_away(tmp_path):
    given = ["--model", f"{ZOO}:mlp", "--steps", "1", "--out", str(tmp_path), "--quiet", "--candidate", "CPU:0"]
    with claimed(tmp_path):
        ran = called(given, tmp_path)
        assert (ran.code, ran.err.count("\n")) == (2, 1) and "is going on" in ran.err
        options = lockstep.parser().parse_args(given)
        request = request_of(options, given)
        (tmp_path / "trace.h5").write_text("of the other")
        with pytest.raises(UserError, match="is going on"):
            run_lockstep(request)
    with pytest.raises(UserError, match=f"already holds trace.h5.*--resume {tmp_path}"):
        run_lockstep(request)
    assert (tmp_path / "trace.h5").read_text() == "of the other" and os.listdir(tmp_path) == ["trace.h5"]
