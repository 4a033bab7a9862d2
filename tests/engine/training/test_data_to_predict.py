"""Data to predict: x alone will do, and targets that are given are left out."""

from __future__ import annotations

import numpy as np
import pytest

from diag.common.modes import PREDICT
from diag.engine.training.data import DataUse, image_hints, load_batches
from diag.engine.training.signature import InputSpec, OutputSpec, Signature
from diag.errors import UserError

ONE = Signature((InputSpec("x", (4,)),), (OutputSpec("kind", (None, 3), "softmax", "no_loss_of_keras"),))
TWO = Signature((InputSpec("left", (4,)), InputSpec("right", (4,))), ONE.outputs, "sequence")
X, Y = np.repeat(np.arange(6, dtype=np.float32)[:, None], 4, axis=1), np.arange(6) % 3
MADE = "import numpy as np, tensorflow as tf\nx, y = np.ones((6, 4), 'float32'), np.arange(6) % 3\ndef data(): return "


def load(spec, signature=ONE):
    batches = load_batches(
        spec if spec is None else str(spec), signature=signature, batch_size=4, steps=2, seed=7, use=DataUse(PREDICT)
    )
    assert batches[0].targets is None and batches[0].sample_weight is None
    return batches


@pytest.mark.parametrize("arrays", [{"x": X}, {"x": X, "y": Y, "sample_weight": Y}, {"x_train": X}])
def test_arrays_of_an_npz_file(tmp_path, arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    batch = load(tmp_path / "data.npz")[0]
    assert batch.data is batch.inputs and batch.inputs.shape == (4, 4)  # as `predict` is given an array


def test_an_npz_file_with_the_model_s_inputs_by_name_or_with_none(tmp_path):
    np.savez(tmp_path / "data.npz", left=X, right=-X)
    (inputs,) = load(tmp_path / "data.npz", TWO)[0].data  # as `predict` is given several
    np.testing.assert_array_equal(inputs[0], -inputs[1])
    with pytest.raises(UserError, match=r"holds left, right; expected x, or x$"):
        load(tmp_path / "data.npz")
    np.savez(tmp_path / "images.npz", x=np.zeros((6, 8, 8, 3)))
    assert image_hints(str(tmp_path / "images.npz"), DataUse(PREDICT)) == ((8, 8, 3), None)


@pytest.mark.parametrize(
    ("gives", "signature"),
    [
        ("x", ONE), ("(x, y)", ONE), ("(x,)", ONE), ("tf.data.Dataset.from_tensor_slices(x).batch(4)", ONE),
        ("tf.data.Dataset.from_tensor_slices((x, y)).batch(4)", ONE), ("[x, x]", TWO), ("((x, x), y)", TWO),
    ],
)  # fmt: skip
def test_what_a_function_gives(tmp_path, gives, signature):
    (tmp_path / "data.py").write_text(MADE + gives)
    batch = load(f"{tmp_path / 'data.py'}:data", signature)[0]
    assert [array.shape for array in batch.as_dict().values()] == [(4, 4)] * len(signature.inputs)


def test_data_are_made_up_whatever_the_outputs_and_the_loss_are():
    assert load(None)[0].inputs.shape == (4, 4)
    images = load(None, Signature((InputSpec("image", (8, 8, 3)),), ONE.outputs)).description
    assert images.source == "generated images"
