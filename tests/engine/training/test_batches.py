"""Batches of arrays and of streams: the same for the same step, whenever they are asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diag.engine.training import batches as batches_module
from diag.engine.training.data import Batch, Batches, load_batches
from diag.engine.training.signature import InputSpec, OutputSpec, Signature
from diag.errors import UserError

NUMBERS = Signature((InputSpec("x", (4,)),), (OutputSpec("kind", (3,), "softmax"),))


def load(spec: str | Path | None, signature: Signature | None = NUMBERS, **changes) -> Batches:
    settings = {"batch_size": 4, "steps": 3, "seed": 7} | changes
    return load_batches(spec if spec is None else str(spec), signature=signature, **settings)


def numbers(count: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Sample i holds i in every column, so that a batch tells which samples it has."""
    x = np.repeat(np.arange(count, dtype=np.float32)[:, None], 4, axis=1)
    return x, np.arange(count) % 3


@pytest.fixture
def npz(tmp_path: Path):
    def save(**arrays: np.ndarray) -> Path:
        np.savez(tmp_path / "data.npz", **arrays)
        return tmp_path / "data.npz"

    return save


@pytest.fixture
def script(tmp_path: Path):
    def save(body: str) -> str:
        (tmp_path / "data.py").write_text(f"import numpy as np\nx, y = np.ones((6, 4)), np.arange(6) % 3\n{body}")
        return f"{tmp_path / 'data.py'}:data"

    return save


# ---- arrays


def test_an_epoch_has_every_sample_once_and_keeps_its_partial_batch(npz):
    x, y = numbers(10)
    batches = load(npz(x=x, y=y))
    epochs = [[batches[3 * epoch + k] for k in range(3)] for epoch in range(3)]
    for epoch in epochs:
        assert [batch.num_samples for batch in epoch] == [4, 4, 2]
        samples = np.concatenate([batch.inputs[:, 0] for batch in epoch]).astype(int)
        assert sorted(samples) == list(range(10))
        np.testing.assert_array_equal(np.concatenate([batch.targets for batch in epoch]), samples % 3)
    orders = [tuple(np.concatenate([b.inputs[:, 0] for b in epoch])) for epoch in epochs]
    assert len(set(orders)) == 3


def test_the_same_seed_gives_the_same_batches_in_any_order(npz):
    x, y = numbers(10)
    path = npz(x=x, y=y)
    first, second, other = load(path), load(path), load(path, seed=8)
    backwards = {k: second[k].inputs for k in reversed(range(12))}
    assert all(np.array_equal(first[k].inputs, backwards[k]) for k in range(12))
    assert any(not np.array_equal(first[k].inputs, other[k].inputs) for k in range(12))


def test_fewer_samples_than_a_batch_is_noted_once(npz):
    x, y = numbers(3)
    batches = load(npz(x=x, y=y))
    assert batches[0].num_samples == batches[5].num_samples == 3
    assert batches.description.notes == ("3 samples are fewer than a batch of 4: each batch holds them all",)
    assert load(npz(x=numbers(4)[0], y=numbers(4)[1])).description.notes == ()


def test_flat_names_of_a_batch():
    one, two = np.zeros(1), np.ones(1)
    batch = Batch({"left": one, "right": (one, two)}, [one], two)
    assert list(batch.as_dict()) == ["inputs/left", "inputs/right/0", "inputs/right/1", "targets/0", "sample_weight"]
    assert list(Batch(one).as_dict()) == ["inputs"]


# ---- streams


DATASET = "import tensorflow as tf\ndef data(): return tf.data.Dataset.from_tensor_slices((x, y))"


def test_a_dataset_is_taken_as_given_and_repeats(script):
    batches = load(script(f"x = x.astype('float32') * np.arange(6)[:, None]\n{DATASET}.batch(4)"), batch_size=99)
    assert [batches[k].num_samples for k in range(4)] == [4, 2, 4, 2]
    assert batches[5].inputs[:, 0].tolist() == [4, 5]
    assert batches.description.num_samples is None


def test_a_py_dataset_is_taken_as_given(script):
    body = """
import keras
class Data(keras.utils.PyDataset):
    def __len__(self): return 2
    def __getitem__(self, k): return x[:3] * k, y[:3]
def data(): return Data()
"""
    batches = load(script(body))
    assert [batches[k].inputs[0, 0] for k in range(4)] == [0, 1, 0, 1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (DATASET, r"targets is a single number; .* is the data set batched\?"),
        (f"y = np.eye(3)[y]\n{DATASET}", r"inputs has 4, targets has 3 samples"),
        (f"y = np.eye(4)[y]\n{DATASET}", r"shape \(4,\); .* \(None, 4\); is the data set batched\?"),
        (f"{DATASET}.take(0).batch(2)", "gives no batch"),
        (f"y = y + 1\n{DATASET}.batch(6)", "2 labels out of range"),
        ("import tensorflow as tf\ndef data(): return tf.data.Dataset.from_tensor_slices(x)", "gave a EagerTensor"),
    ],
)
def test_data_sets_that_are_refused(script, body, message):
    with pytest.raises(UserError, match=message):
        load(script(body))


def test_a_stream_checks_each_batch_as_it_comes(script):
    batches = load(script(f"x[5] = np.nan\n{DATASET}.batch(3)"))
    with pytest.raises(UserError, match="holds 4 NaN"):
        batches[1]


def test_a_stream_checks_labels_once_the_classes_are_known(script):
    batches = load(script(f"{DATASET}.batch(1)"), None)
    batches.check_labels((2,))
    batches[1]
    with pytest.raises(UserError, match="1 label out of range, the first 2"):
        batches[2]


def test_a_stream_is_read_again_only_if_it_repeats_itself(script, monkeypatch):
    monkeypatch.setattr(batches_module, "_KEPT_BYTES", 1)  # keeps the last batch alone
    steady = load(script(f"x = x * np.arange(6)[:, None]\n{DATASET}.batch(2)"))
    later = steady[4].inputs
    np.testing.assert_array_equal(steady[1].inputs, later)  # the same batch, an epoch apart
    body = f"x = np.random.default_rng(0).random((600, 4))\ny = np.arange(600) % 3\n{DATASET}"
    restless = load(script(f"{body}.shuffle(600).batch(300)"))
    restless[5]
    with pytest.raises(UserError, match=r"another batch 0 when read again; .*reshuffle_each_iteration=False"):
        restless[0]


# ---- lengths


LENGTHS = """
import keras
read = []
class Data(keras.utils.PyDataset):
    def __len__(self): return 3
    def __getitem__(self, k):
        read.append(k)
        return np.ones((2, (3, 5, 4)[k]), "float32"), y[:2]
def data(): return Data()
"""


def test_a_stream_tells_the_longest_of_its_first_batches(script):
    batches = load(script(LENGTHS), None)
    longest = batches.longest(3)
    assert (longest.inputs.shape, longest.targets.shape) == ((2, 5), (2,))
    assert batches.longest(1).inputs.shape == (2, 3)
    assert [batches[k].inputs.shape[1] for k in range(3)] == [3, 5, 4]


def test_what_says_that_its_batches_are_alike_is_not_read_for_that(script, monkeypatch):
    batches = load(script(f"x = x.astype('float32')\n{DATASET}.batch(4)"))
    monkeypatch.setattr(batches, "_first", None)
    assert batches.longest(3) is batches[0]


def test_of_texts_in_any_of_numpys_ways_the_bytes_are_taken(script):
    for written in (
        'np.array(["a", "größer"])',
        'np.array(["a", "größer"], object)',
        '["a".encode(), "größer".encode()]',
    ):
        spec = script(f"def data(): return {written}, y[:2]")
        batches = load(spec, Signature((InputSpec("text", (), "string"),), NUMBERS.outputs), batch_size=2)
        assert sorted(batches[0].inputs.tolist()) == [b"a", "größer".encode()]


def test_objects_and_texts_for_targets_are_refused(script):
    with pytest.raises(UserError, match="an array of objects"):
        load(script("def data(): return np.array([[1], [1, 2]], object), y[:2]"))
    with pytest.raises(UserError, match=r"targets has dtype \|S1"):
        load(script('def data(): return x[:2], np.array(["a", "b"])'))
