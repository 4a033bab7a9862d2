"""`verify`: what is sound is said to be so with figures, and each kind of damage is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  to write into what is compressed
import numpy as np
import pytest

from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter


def problems_of(document: dict) -> list[str]:
    return [problem for check in document["checks"] for problem in check["problems"]]


@pytest.mark.parametrize("portable", [False, True])
def test_a_sound_trace(run, write, tmp_path: Path, portable: bool) -> None:
    path = write(tmp_path / "t.h5", portable=portable)
    done = run("verify", path, "--json")
    assert (done.code, done.document["schema"], done.document["sound"]) == (0, "lockstep-trace-verify/1", True)
    said = {check["name"]: check["said"] for check in done.document["checks"]}
    # In bytes, of both lanes: 36 of activations/dense, 8 of dense_1, 32 of tokens, 24 of each of two of
    # float32, 4 of float16 in the steps 0 and 2; 24 and 4 in step 1.
    num_bytes = 2 * (2 * (36 + 8 + 32 + 24 + 24 + 4) + 24 + 4)
    assert said["tensors of steps"].startswith(f"28 values read back, {num_bytes} bytes")
    assert said["tensors of steps"].endswith("8 more are checksums alone")
    assert said["tensors of snapshots"].startswith("2 values read back, 48 bytes")
    assert said["steps"] == "3 whole of 6 planned: 0-2"
    assert said["table units"].endswith("columns of 12 rows, held against checksums")
    assert said["report"].startswith("lockstep-report/1, divergence; 1 report, ")
    assert "Sound: nothing is wrong in" in run("verify", path).out


TABLES = ("steps", "snapshots", "batches", "ops", "units")
Damage = Callable[[h5py.File], None]


def a_value(file: h5py.File) -> None:
    dataset = file["steps/tensors/update/dense/kernel/candidate"]
    value = dataset[2]
    value[1, 1] += 1
    dataset[2] = value


def the_reference_of_a_difference(file: h5py.File) -> None:
    file["steps/tensors/update/dense/kernel/reference"][0, 0, 0] += 1


def a_checksum(file: h5py.File) -> None:
    file["snapshots/checksum"][0, 0] ^= np.uint64(1)


def an_extent(file: h5py.File) -> None:
    file["steps/extent"][0, 0, 0] = 400


def a_text(file: h5py.File) -> None:
    dataset = file["ops/layer"]
    dataset[1] = np.array(b"\xff\xfe", dataset.dtype)


def a_missing_checksum(file: h5py.File) -> None:
    file["batches/checksum"][0, 0] = 0


def the_report(file: h5py.File) -> None:
    file["reports/bytes"][0] = ord("}")


def another_report(file: h5py.File) -> None:
    text = json.dumps({"schema": "other/1", "verdict": "fine"}).encode()
    file["reports/bytes"][: len(text)] = np.frombuffer(text, np.uint8)
    file["reports/stop"][0] = len(text)


def change_text(name: str, old: bytes, new: bytes) -> Damage:
    """A document with some of its bytes replaced, as a flipped bit would, and still JSON."""

    def damage(file: h5py.File) -> None:
        text = file[name][()]
        assert text.count(old) == 1
        file[name][()] = text.replace(old, new)

    damage.__name__ = name
    return damage


def the_environment(file: h5py.File) -> None:
    change_text("environment/candidate", b"2.21.0", b"2.21.1")(file)


def the_command(file: h5py.File) -> None:
    change_text("command", b"lockstep", b"lockstap")(file)


def the_seeds(file: h5py.File) -> None:
    change_text("seeds", b"3", b"4")(file)


def the_model(file: h5py.File) -> None:
    change_text("model_config", b"tiny", b"tina")(file)


def the_layout(file: h5py.File) -> None:
    change_text("layout", b'"steps": 6', b'"steps": 7')(file)


def the_version(file: h5py.File) -> None:
    file.attrs["version"] = "9"


def the_program(file: h5py.File) -> None:
    file["programs/bytes"][3] ^= 0x20


def a_loss(file: h5py.File) -> None:
    file["steps/loss/candidate"][1] += 1e-9


def a_verdict(file: h5py.File) -> None:
    file["units/verdict"][4] = b"identical"


def an_excess(file: h5py.File) -> None:
    file["ops/excess"][0] = 0.5


def a_figure_of_the_report(file: h5py.File) -> None:
    text = file["reports/bytes"][:].tobytes()
    at = text.index(b"611")
    file["reports/bytes"][at] = ord("9")


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (a_value, ["steps row 2, update/dense/kernel/candidate: checksum"]),
        (the_reference_of_a_difference, ["steps row 0, update/dense/kernel/reference: checksum",
                                         "steps row 0, update/dense/kernel/candidate: checksum"]),
        (the_environment, ["environment/candidate: checksum"]),
        (the_command, ["command: checksum"]),
        (the_seeds, ["seeds: checksum"]),
        (the_model, ["model_config: checksum"]),
        (the_layout, ["layout: checksum"]),
        (the_version, ["attributes of the file: checksum"]),
        (the_program, ["programs 0: checksum"]),
        (a_loss, ["steps rows 1: not as they were written"]),
        (a_verdict, ["units rows 4-7: not as they were written"]),
        (an_excess, ["ops rows 0-2: not as they were written"]),
        (a_figure_of_the_report, ["reports 0: checksum"]),
        (a_checksum, ["snapshots rows 0: not as they were written",
                    "snapshots row 0, dense/kernel/reference: checksum"]),
        (an_extent, ["steps rows 0: not as they were written",
                    "steps row 0, activations/dense/reference: an extent of 400x3, and at most 3x3 is possible"]),
        (a_text, ["ops/layer: cannot be read (UnicodeDecodeError"]),
        (a_missing_checksum, ["batches rows 0: not as they were written",
                    "batches row 0, inputs: a value without a checksum"]),
        (the_report, ["report: Cannot read the trace"]),
        (another_report, ["report: schema 'other/1', expected lockstep-report/N",
                          "report: verdict 'fine', expected one", "reports 0: checksum"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_damage_is_found(run, write, tmp_path: Path, damage: Damage, found: list[str]) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        damage(file)
    done = run("verify", path, "--json")
    assert (done.code, done.document["sound"]) == (1, False)
    problems = problems_of(done.document)
    assert len(problems) == len(found)
    assert all(problem.startswith(start) for problem, start in zip(problems, found, strict=True)), problems
    assert f"{len(found)} problem" in run("verify", path).out


def test_a_document_that_is_missing_is_refused(refused, write, tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        del file["environment/candidate"]
    assert "environment/candidate is missing" in refused("verify", path)


def test_a_column_that_is_too_short_is_refused(refused, write, tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        file["units/excess"].resize(11, axis=0)
    assert "units/excess has 11 rows, and 12 are claimed" in refused("verify", path)


def test_an_earlier_trace_is_not_said_to_be_checksummed(run, write, tmp_path: Path) -> None:
    path = write(tmp_path / "t.h5")
    with h5py.File(path, "r+") as file:
        names = ["checksums", "programs/checksum", "reports/checksum"]
        names += [f"{table}/{name}" for table in TABLES for name in ("appended", "appended_checksum")]
        for name in names:
            del file[name]
    done = run("verify", path, "--json")
    assert done.code == 0
    unsummed = [check["name"] for check in done.document["checks"] if "not checksummed" in check["said"]]
    assert unsummed == ["documents", "programs", *(f"table {table}" for table in TABLES), "report"]


def test_bytes_that_rot_on_the_disk(run, write, tmp_path: Path) -> None:
    """Whatever byte of a stored value goes wrong, it is not sound: HDF5 itself has no checksum of raw data."""
    path = write(tmp_path / "t.h5", portable=True)
    with h5py.File(path) as file:
        chunk = file["steps/tensors/gradients/dense/kernel/reference"].id.get_chunk_info(0)
    text = bytearray(path.read_bytes())
    text[chunk.byte_offset + 5] ^= 0x10
    path.write_bytes(text)
    done = run("verify", path, "--json")
    assert (done.code, len(problems_of(done.document))) == (1, 1)


def test_what_holds_nothing_is_not_called_sound(run, tmp_path: Path) -> None:
    layout = TraceLayout(steps=3, tensors=(TensorSpec("dense", (2,), "float32", "reference", "activations"),))
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})):
        pass
    done = run("verify", tmp_path / "t.h5")
    assert done.code == 1
    assert "Nothing could be checked: the trace holds no step, no row and no tensor." in done.text
    assert run("verify", tmp_path / "t.h5", "--json").document["sound"] is False


def test_a_trace_with_no_report_is_sound_as_far_as_it_goes(run, tmp_path: Path) -> None:
    spec = TensorSpec("dense", (2,), "float32", "reference", "activations")
    layout = TraceLayout(lanes=("reference",), tensors=(spec,))
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}})) as trace:
        trace.append_step(StepRecord(0, 0, {"reference": 1.0}, {spec.key: np.ones(2, np.float32)}))
    done = run("verify", tmp_path / "t.h5")
    assert done.code == 0
    assert "none yet: the run goes on, or was stopped before it" in done.text
    assert "without their batch: 0" in done.text
