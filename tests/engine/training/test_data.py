"""Training data from arrays and functions, and what is refused at the door."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from diag.engine.training.data import Batches, image_hints, load_batches
from diag.engine.training.models import build_on, motivating_cnn
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


# ---- npz


def test_npz_forms(npz):
    x, y = numbers()
    weight = np.ones(10)
    assert load(npz(x_train=x, y_train=y, x_test=x)).description.num_samples == 10
    batch = load(npz(x=x.astype(np.float64), y=y, sample_weight=weight))[0]
    assert batch.inputs.dtype == batch.sample_weight.dtype == np.float32  # as model.fit would give them
    wide = Signature((InputSpec("x", (4,), "float64"),), NUMBERS.outputs)
    assert load(npz(x=x.astype(np.float64), y=y), wide)[0].inputs.dtype == np.float64


@pytest.mark.parametrize(("form", "container"), [("sequence", tuple), ("dict", dict)])
def test_npz_by_the_models_names(npz, form, container):
    x, y = numbers()
    inputs = (InputSpec("left", (4,)), InputSpec("right", (4,)))
    signature = Signature(inputs, NUMBERS.outputs, form)
    for targets in ("y", "kind"):
        batch = load(npz(left=x, right=-x, **{targets: y}), signature)[0]
        assert isinstance(batch.inputs, container)
        left, right = batch.inputs.values() if form == "dict" else batch.inputs
        np.testing.assert_array_equal(left, -right)


def test_images_without_their_channel_axis_are_taken_as_keras_takes_them(npz):
    signature = Signature((InputSpec("image", (8, 8, 1)),), NUMBERS.outputs)
    path = npz(x=np.zeros((4, 8, 8), np.float32), y=np.zeros(4, int))
    assert load(path, signature)[0].inputs.shape == (4, 8, 8)
    model = motivating_cnn((8, 8, 1))
    assert build_on(model, load(path, signature)[0].inputs).shape == (4, 2)


BAD = {
    "lengths": ({"y": np.zeros(9, int)}, r"inputs has 10, targets has 9 samples; expected as many in each"),
    "none": ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, "no samples"),
    "shape": ({"x": np.zeros((10, 5))}, r"inputs has shape \(10, 5\); the model's input x takes \(None, 4\)$"),
    "strings": ({"x": np.full((10, 4), "a")}, "inputs has dtype <U1; expected floats, integers or booleans"),
    "objects": ({"x": np.array([{}] * 10)}, "dtype object cannot be read"),
    "complex": ({"x": np.zeros((10, 4), complex)}, "inputs has dtype complex128"),
    "scalar": ({"y": np.array(1)}, "targets is a single number"),
    "weight": ({"sample_weight": np.ones(3)}, "sample_weight has 3 samples"),
    "too large": ({"y": np.array([0, 1, 2, 3, 0, 1, 5, 1, 2, 0])}, r"2 labels .* first 3 at index 3; .*kind has 3"),
    "one too large": ({"y": np.array([[0]] * 9 + [[3]])}, r"1 label out of range, the first 3 at index \(9, 0\)"),
    "negative": ({"y": np.array([0] * 4 + [-1] + [0] * 5)}, "first -1 at index 4; .* expected 0 to 2"),
    "float label": ({"y": np.array([0.0] * 9 + [7.0])}, "first 7 at index 9"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arrays_are_refused(npz, case):
    x, y = numbers()
    changes, message = BAD[case]
    with pytest.raises(UserError, match=message) as error:
        load(npz(**{"x": x, "y": y, **changes}))
    assert "\n" not in str(error.value) and "data.npz" in str(error.value)


def test_not_a_number_is_counted_and_located(npz):
    x, y = numbers()
    x[3, 1], x[7, 0], x[7, 2] = np.nan, np.inf, np.nan
    message = r"inputs holds 2 NaN and 1 Inf among 40 float32 values, the first at index \(3, 1\)"
    with pytest.raises(UserError, match=message):
        load(npz(x=x, y=y))
    with pytest.raises(UserError, match=r"inputs holds 1 Inf among"):  # beyond float32
        load(npz(x=np.where(np.arange(40).reshape(10, 4) == 5, 1e300, 0.0), y=y))


def test_tokens_must_have_a_row(npz):
    signature = Signature((InputSpec("x", (2,), "int32", num_tokens=5),), NUMBERS.outputs)
    with pytest.raises(UserError, match=r"1 token out of range, the first 5 at index \(0, 1\); .* 5 rows"):
        load(npz(x=np.array([[0, 5]]), y=np.array([0])), signature)


def test_an_ignored_class_and_a_sigmoids_two_classes(npz):
    x = numbers()[0]
    ignoring = Signature(NUMBERS.inputs, (OutputSpec("kind", (3,), "softmax", ignored_class=-1),))
    load(npz(x=x, y=np.array([0, -1] * 5)), ignoring)
    sigmoid = Signature(NUMBERS.inputs, (OutputSpec("kind", (1,), "sigmoid"),))
    with pytest.raises(UserError, match=r"first 2 at index 1; .* expected 0 to 1"):
        load(npz(x=x, y=np.array([0, 2] * 5)), sigmoid)


def test_labels_of_a_model_without_signature(npz):
    x, y = numbers()
    batches = load(npz(x=x, y=y), None)
    batches.check_labels((3,))
    batches.check_labels((None,))
    with pytest.raises(UserError, match=r"--data .*data.npz: targets holds 3 labels out of range"):
        batches.check_labels((2,))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("absent.npz", None, "there is no such file"),
        ("data.csv", b"1,2", "neither an .npz file, FILE.py:FUNCTION, package.module:FUNCTION, or a folder"),
        ("absent", None, "and there is no such file"),
        ("text.npz", b"no zip", "cannot be read as .npz"),
        ("empty.npz", b"", "cannot be read as .npz"),
    ],
)
def test_files_that_are_no_data(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        load(tmp_path / name)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_npz_with_other_names(npz):
    with pytest.raises(UserError, match="holds a, b; expected x and y, x_train and y_train, or x with y or kind"):
        load(npz(a=np.zeros(2), b=np.zeros(2)))


# ---- functions


def test_function_returning_arrays_lists_or_tensors(script):
    assert load(script("def data(): return x, y"))[0].inputs.dtype == np.float32
    assert load(script("def data(): return x.tolist(), y.tolist(), np.ones(6)"))[0].sample_weight.shape == (4,)
    two = Signature((InputSpec("a", (4,)), InputSpec("b", (4,))), NUMBERS.outputs, "sequence")
    body = "import tensorflow as tf\ndef data(): return (tf.constant(x), x), y"
    assert [part.shape for part in load(script(body), two)[0].inputs] == [(4, 4), (4, 4)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def data(): return x", "gave a ndarray; expected"),
        ("def data(): return x, y, y, y", "gave 4 values; expected"),
        ("def data(): return [[1.0], [1.0, 2.0]], y", "inputs cannot be made an array: ValueError"),
        ("def data(): return x, np.array([None] * 6)", "targets is an array of objects"),
        ("def data(): return (x, x), y", r"the data has 2 inputs; the model has 1 \(x\)"),
        ("def data(): return {'z': x}, y", "inputs are named z; the model's are named x"),
        ("def data(): raise OSError('disk')", r"data\(\) raised OSError: disk"),
        ("def other(): pass", "no function 'data'"),
    ],
)
def test_functions_that_give_no_data(script, body, message):
    with pytest.raises(UserError, match=message) as error:
        load(script(body))
    assert "\n" not in str(error.value) and "data.py" in str(error.value)


# ---- settings and laziness


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "--batch-size is 0; expected a whole number of at least 1"),
        ({"steps": 0}, "--steps is 0"),
        ({"steps": 2.5}, "--steps is 2.5"),
        ({"batch_size": True}, "--batch-size is True"),
        ({"seed": -1}, "--seed is -1; expected a whole number of at least 0"),
    ],
)
def test_counts_must_be_whole_and_positive(changes, message):
    with pytest.raises(UserError, match=message):
        load(None, **changes)


def test_numpy_integers_are_whole():
    assert load(None, batch_size=np.int64(4))[0].num_samples == 4


def test_hints_for_the_motivating_cnn(npz, script):
    assert image_hints(None) == image_hints(script("def data(): pass")) == (None, None)
    assert image_hints(str(npz(x=np.zeros((5, 8, 8)), y=np.arange(5)))) == ((8, 8, 1), 5)
    assert image_hints(str(npz(x=np.zeros((5, 8, 9, 3)), y=np.zeros(5, int)))) == ((8, 9, 3), 2)
    assert image_hints(str(npz(x=np.zeros((5, 8)), y=np.zeros((5, 2))))) == (None, None)
