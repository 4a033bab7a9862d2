from __future__ import annotations

import tempfile

import numpy as np
import pytest

from diag.engine.step.batch import Batch
from diag.engine.training.kept_batches import KeptBatches
from diag.errors import UserError


def batch(k: int) -> Batch:
    return Batch({"a": np.full((3, 2), k, np.float16)}, None, None, 1)


def test_a_batch_is_read_again_as_it_was() -> None:
    batches = KeptBatches()
    assert [batches.add(batch(k), 5) for k in range(5)] == [True, True, True, True, False]
    for k in (4, 0, 3, 0, 1):
        assert batches[k].num_parts == 1 and batches[k].targets is None
        np.testing.assert_array_equal(batches[k].inputs["a"], batch(k).inputs["a"], strict=True)
    assert len(batches) == 5 and not batches.is_full


def test_no_more_is_kept_than_the_limit() -> None:
    batches = KeptBatches(most=500)
    num = 1
    while batches.add(batch(num), 1000):
        num += 1
    assert batches.is_full and len(batches) == num < 10


def test_a_full_disk_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    batches = KeptBatches()
    monkeypatch.setattr("pickle.dump", full)
    with pytest.raises(UserError, match=r"batch 0 cannot be kept in .*No space left.*TMPDIR") as raised:
        batches.add(batch(0), 2)
    assert tempfile.gettempdir() in str(raised.value)
