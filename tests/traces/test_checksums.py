"""A checksum is XXH3-64 of a tensor's shape and bits, for what was kept and for what was not."""

from __future__ import annotations

import struct
from pathlib import Path

import h5py
import ml_dtypes
import numpy as np
import pytest
import xxhash

from traces.checksums import tensor_checksum
from traces.reader import TraceReader
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.writer import TraceWriter

LANES = ("reference", "candidate")
LAYOUT = TraceLayout(
    tensors=tuple(
        TensorSpec(name, (4, 300), dtype, lane, "gradient")
        for name, dtype in (("dense", "float32"), ("half", "bfloat16"))
        for lane in LANES
    ),
    variables=tuple(TensorSpec("kernel", (3,), "float16", lane) for lane in LANES),
    batch=(TensorSpec("inputs", (4,), "int32"),),
)


def test_it_is_xxh3_of_the_shape_and_the_bytes() -> None:
    array = np.array([[1, 2, 3], [-4, 5, 6]], np.int16)
    by_hand = struct.pack("<3q6h", 2, 2, 3, 1, 2, 3, -4, 5, 6)
    assert tensor_checksum(array) == xxhash.xxh3_64_intdigest(by_hand)
    assert tensor_checksum(np.float32(1.0)) == xxhash.xxh3_64_intdigest(struct.pack("<qf", 0, 1.0))
    assert tensor_checksum(np.empty((0, 5))) == xxhash.xxh3_64_intdigest(struct.pack("<3q", 2, 0, 5))


def test_xxh3_is_the_published_one() -> None:
    """The digest of no bytes, seed 0: xxHash's tests/sanity_test_vectors.h."""
    assert xxhash.xxh3_64_intdigest(b"") == 0x2D06800538D394C2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "bool", "int64", "complex64"])
def test_how_it_lies_in_memory_does_not_matter(dtype: str) -> None:
    array = np.arange(24).reshape(4, 6).astype(dtype)
    expected = tensor_checksum(array)
    assert tensor_checksum(np.asfortranarray(array)) == expected
    assert tensor_checksum(np.repeat(array, 2, axis=1)[:, ::2]) == expected
    assert tensor_checksum(array.astype(array.dtype.newbyteorder(">"))) == expected


def test_every_bit_and_the_shape_matter() -> None:
    bits = np.array([0, 1 << 31, 0x7FC00000, 0x7FC00001, 0x7F800001], np.uint32)
    values = [value.view(np.float32).reshape(shape) for value in bits for shape in ((), (1,), (1, 1))]
    assert len({tensor_checksum(value) for value in values}) == len(values)


def test_no_tensor_has_the_checksum_of_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Zero:
        def __init__(self, start: bytes) -> None: ...
        def update(self, data: object) -> None: ...
        def intdigest(self) -> int:
            return 0

    monkeypatch.setattr(xxhash, "xxh3_64", Zero)
    assert tensor_checksum(np.ones(3)) == 1


def step_tensors() -> dict[tuple[str, str, str], np.ndarray]:
    random = np.random.default_rng(5)
    return {
        spec.key: random.standard_normal(spec.shape).astype(ml_dtypes.bfloat16 if spec.name == "half" else "f4")
        for spec in LAYOUT.tensors
    }


@pytest.mark.parametrize("portable", [False, True])
def test_what_is_not_kept_leaves_its_checksum(tmp_path: Path, portable: bool) -> None:
    path, tensors = tmp_path / "trace.h5", step_tensors()
    del tensors["candidate", "gradient", "half"]
    kept = [("reference", "gradient", "dense"), ("candidate", "gradient", "dense")]
    with TraceWriter(path, LAYOUT, RunDocuments({lane: {} for lane in LANES}), portable=portable) as trace:
        for step, keep in enumerate((None, kept, [])):
            trace.append_step(StepRecord(step, 0, {lane: 0.0 for lane in LANES}, tensors, keep))
    with TraceReader(path) as trace:
        for step, keep in enumerate((tensors.keys(), kept, [])):
            assert trace.kept_in(step) == set(keep)
            for key in LAYOUT.tables["steps"].by_key:
                expected = tensor_checksum(tensors[key]) if key in tensors else None
                assert trace.checksum(step, *key) == expected
                if key in keep:
                    assert tensor_checksum(trace.tensor(step, *key)) == expected
                else:
                    with pytest.raises(KeyError, match="was written without"):
                        trace.tensor(step, *key)
        with pytest.raises(KeyError, match="has no tensor"):
            trace.checksum(0, "truth", "gradient", "dense")
        with pytest.raises(KeyError, match="has no step 3"):
            trace.kept_in(3)


def test_a_value_that_is_not_kept_takes_no_room(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with TraceWriter(path, LAYOUT, RunDocuments({lane: {} for lane in LANES})) as trace:
        trace.append_step(StepRecord(0, 0, {lane: 0.0 for lane in LANES}, step_tensors(), keep=()))
    with h5py.File(path) as file:
        assert file["steps/tensors/gradient/dense/reference"].shape == (0, 4, 300)
        assert file["steps/checksum"].shape == (1, 4)
        assert file["steps/checksum"].dtype == np.uint64


def test_snapshots_and_batches_have_checksums(tmp_path: Path) -> None:
    state = {"kernel": np.array([1, -0.0, np.nan], np.float16)}
    with TraceWriter(tmp_path / "trace.h5", LAYOUT, RunDocuments({lane: {} for lane in LANES})) as trace:
        trace.write_snapshot(2, {"reference": state})
        trace.write_batch(7, {"inputs": np.arange(3, dtype=np.int32)})
        trace.append_step(StepRecord(0, 7, {lane: 0.0 for lane in LANES}))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.snapshot_checksums(2, "reference") == {"kernel": tensor_checksum(state["kernel"])}
        assert trace.snapshot_checksums(2, "candidate") == {}
        assert trace.batch_checksums(0) == {"inputs": tensor_checksum(np.arange(3, dtype=np.int32))}


def test_what_cannot_be_kept_is_refused(tmp_path: Path) -> None:
    tensors, loss = step_tensors(), {lane: 0.0 for lane in LANES}
    with TraceWriter(tmp_path / "trace.h5", LAYOUT, RunDocuments({lane: {} for lane in LANES})) as trace:
        with pytest.raises(ValueError, match="beside it"):
            trace.append_step(StepRecord(0, 0, loss, tensors, [("candidate", "gradient", "dense")]))
        with pytest.raises(ValueError, match="Only what is handed over can be kept"):
            trace.append_step(StepRecord(0, 0, loss, tensors, [("truth", "gradient", "dense")]))
    with TraceReader(tmp_path / "trace.h5") as trace:
        assert trace.steps == []
