"""Two recordings held against each other, and a live candidate held against a recording."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from diag import lockstep
from diag.engine.recordings.comparison import RunComparison
from diag.engine.recordings.recorded_run import RecordedRun
from diag.engine.recordings.recorded_side import RecordedSide
from diag.engine.truth.unit_judge import UnitJudge
from diag.errors import UserError
from diag.verdict.result import RunResult
from tests import traced
from traces.checksums import tensor_checksum
from traces.reader import TraceReader

MODELS = "tests/engine/recordings/replayed_models.py"
EVERY = (*traced.EVERY_STATE, *traced.QUICK)


def compared(a: Path, b: Path, lane_a: str = "reference", lane_b: str = "candidate") -> RunResult:
    with RecordedRun(a) as one, RecordedRun(b) as other:
        return RunComparison(RecordedSide(one, lane_a), RecordedSide(other, lane_b)).run()


@pytest.fixture(scope="module")
def cpu() -> Path:
    return traced.cpu()


@pytest.fixture(scope="module")
def tf32() -> Path:
    return traced.tf32()


# ---- two recordings


def test_the_same_training_twice_is_identical(cpu: Path, tf32: Path) -> None:
    result = compared(cpu, tf32, lane_b="reference")
    assert result.verdict == "identical" and not result.divergences and not result.notes
    with TraceReader(cpu) as reader:
        assert result.losses["candidate"] == list(reader.losses["reference"])


def test_a_recorded_fault_is_found_where_the_live_run_found_it(cpu: Path, tf32: Path) -> None:
    result = compared(cpu, tf32)
    with TraceReader(tf32) as reader:
        live = reader.report()
    assert live is not None and live["verdict"] == result.verdict == "divergence"
    first = result.first_divergence
    assert first is not None
    assert (first.where.step, first.where.layer, first.where.phase) == (0, "dense", "forward")
    assert first.cause == live["first_divergence"]["cause"] == "format:tf32-rne" and first.blame == "kernel"
    assert {d.where.layer for d in result.divergences} == {"dense", "dense_1"}  # the last output is not watched
    assert any("steps 1-2 differ and are not judged" in note.text for note in result.notes)


def test_rounding_is_told_from_a_fault(cpu: Path) -> None:
    """The candidate's sums come out of another kernel order; no float32 kernel is at fault."""
    other = traced.trace(*traced.MLP, "--candidate", f"sim:{MODELS}:last_bit", *EVERY)
    result = compared(cpu, other)
    assert result.verdict == "rounding" and result.judged.layer_outputs > 0
    assert result.first_bit_difference is not None and result.first_bit_difference.where.step == 0
    assert 0 < max(o.excess for o in result.worst) < 1


def test_the_path_is_of_the_last_step_that_was_judged(cpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first step's differences are not shown as those of a later one of which nothing can be judged."""
    other = traced.trace(*traced.MLP, "--candidate", f"sim:{MODELS}:last_bit", *EVERY)
    assert {o.where.step for o in compared(cpu, other).path} == {2}
    judge = UnitJudge.judge
    monkeypatch.setattr(UnitJudge, "judge", lambda self, of, *more: [] if of.run.step else judge(self, of, *more))
    assert compared(cpu, other).path == ()


def test_other_random_numbers_are_no_fault_of_what_comes_after_them() -> None:
    """The masks differ, so what lies behind them differs too; each layer is right on its own inputs."""
    a, b = (traced.trace("--model", f"{MODELS}:{make}", *traced.MLP[2:], "--candidate", "CPU:0", *EVERY)
            for make in ("noisy", "noisy_otherwise"))  # fmt: skip
    result = compared(a, b)
    assert result.verdict == "rounding" and not result.divergences
    assert result.judged.layer_outputs > 0 and result.judged.layer_outputs == len(result.worst)
    assert any(note.text.startswith("steps 0: the two drew other random numbers") for note in result.notes)


# ---- what is not one training


def with_seed(seed: str) -> Path:
    return traced.trace("--model", "tests/zoo.py:mlp", "--data", f"{MODELS}:ten", "--batch-size", "10", "--steps", "1",
                        "--candidate", "CPU:0", "--seed", seed, "--units", "step")  # fmt: skip


def test_other_weights_are_refused() -> None:
    with pytest.raises(UserError, match=r"begin step 0 with other values in dense/kernel; expected .* the same --seed"):
        compared(with_seed("0"), other_weights())


def other_weights() -> Path:
    """The same batch, from the same seed of the data, and a model that draws its weights otherwise."""
    return traced.trace("--model", f"{MODELS}:mlp_otherwise", "--data", f"{MODELS}:ten", "--batch-size", "10",
                        "--steps", "1", "--candidate", "CPU:0", "--seed", "0", "--units", "step")  # fmt: skip


def test_other_batches_are_refused(cpu: Path) -> None:
    with pytest.raises(UserError, match="other batches in step 0; expected two runs on the same data and seed"):
        compared(cpu, with_seed("0"))


def test_another_model_is_refused() -> None:
    other = traced.trace("--model", f"{MODELS}:wide", "--data", f"{MODELS}:ten", "--batch-size", "10", "--steps", "1",
                         "--candidate", "CPU:0", "--units", "step")  # fmt: skip
    with pytest.raises(UserError, match=r"not of one model: only one of them has the variables .*and \d+ more"):
        compared(with_seed("0"), other)


def test_bits_that_differ_and_cannot_be_judged_are_no_answer(cpu: Path) -> None:
    unkept = traced.trace(*traced.MLP, "--candidate", "sim:tf32", "--dump", "none", "--no-attribute", *traced.QUICK)
    with pytest.raises(UserError, match=r"from step 0 on \(activations of dense\), .* record both with --dump all"):
        compared(cpu, unkept)
    assert compared(cpu, unkept, lane_b="reference").verdict == "identical"  # checksums are enough for that


# ---- a live candidate against a recording


def against(trace: Path, folder: Path, *arguments: str) -> tuple[int, dict]:
    code = lockstep.main(["--reference", f"trace:{trace}", *arguments, "--out", str(folder / "run"), "--quiet"])
    return code, json.loads((folder / "run" / "report.json").read_text())


def test_a_live_candidate_with_the_recorded_bits_is_identical(cpu: Path, tmp_path: Path) -> None:
    code, report = against(cpu, tmp_path, "--candidate", "CPU:0", *traced.QUICK)
    assert code == 0 and report["verdict"] == "identical" and report["steps"] == 3
    assert str(cpu.name) in report["lanes"]["reference"]["place"]


def test_what_was_recorded_counts_and_not_what_is_computed_here(cpu: Path, tmp_path: Path) -> None:
    """One element of a recorded activation is changed, with its checksum: the candidate then differs there."""
    with TraceReader(cpu) as reader:
        value = reader.tensor(0, "reference", "activations", "dense").copy()
    value[1, 2] += np.float32(0.5)
    changed = rewritten(cpu, tmp_path, ("activations", "dense"), value)
    code, report = against(changed, tmp_path, "--candidate", "CPU:0", "--steps", "1")
    first = report["first_bit_difference"]
    assert report["verdict"] != "identical" and code in (0, 1)
    assert first["step"] == 0 and first["layer"] == "dense"


def rewritten(source: Path, folder: Path, name: tuple[str, str], value: np.ndarray) -> Path:
    """A copy of the trace with another value of a tensor in the reference's step 0."""
    copy = folder / "rewritten.h5"
    copy.write_bytes(source.read_bytes())
    with TraceReader(source) as reader:
        keys = [spec.key for spec in reader.layout.tensors]
    with h5py.File(copy, "r+") as file:
        file[f"steps/tensors/{name[0]}/{name[1]}/reference"][0] = value
        file["steps/checksum"][0, keys.index(("reference", *name))] = tensor_checksum(value)
    return copy


def test_the_live_candidate_takes_the_draws_that_were_recorded(tmp_path: Path) -> None:
    trace = traced.trace("--model", f"{MODELS}:noisy", *traced.MLP[2:], "--candidate", "CPU:0", *EVERY, "--portable")
    with TraceReader(trace) as reader:
        (name,) = reader.names("draws")
        drawn = reader.tensor(0, "reference", "draws", name) + np.float32(1)  # as no uniform draw is
    against(
        rewritten(trace, tmp_path, ("draws", name), drawn),
        tmp_path,
        "--candidate",
        "CPU:0",
        "--steps",
        "1",
        *traced.QUICK,
    )
    with TraceReader(tmp_path / "run" / "trace.h5") as reader:
        before, after = (reader.tensor(0, "candidate", "activations", layer) for layer in ("first", "noise"))
        assert after.tobytes() == (before + drawn).tobytes()
        assert reader.tensor(0, "reference", "draws", name).tobytes() == drawn.tobytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--steps", "9"), "holds 3 steps"),
        (("--follow", "candidate"), "cannot start from another's state"),
        (("--model", "tests/zoo.py:mlp"), "leave --model out"),
        (("--batch-size=7",), "leave --batch-size out"),
        (("--seed", "1"), "leave --seed out"),
        (("--candidate", "CPU:0/graph/mixed_float16"), "computes in float32"),
    ],
)
def test_what_a_recorded_reference_settles_cannot_be_given(
    cpu: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    given = ["--reference", f"trace:{cpu}", "--candidate", "CPU:0", *arguments, "--out", str(tmp_path / "a" / "run")]
    assert lockstep.main(given) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not any(tmp_path.iterdir())
