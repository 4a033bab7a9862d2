"""Loading a model, building it, and choosing its loss and optimizer."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

from diag.common.user_code import names_function
from diag.engine.training.models import (
    apply_policy,
    build_on,
    build_optimizer,
    choose_loss,
    last_operation,
    load_model,
    motivating_cnn,
    prepare_training,
)
from diag.engine.training.signature import signature_of
from diag.errors import UserError
from diag.machine.places import POLICIES

USER_FILE = """
import keras, sys
import neighbour

def good():
    return keras.Sequential([keras.Input((neighbour.SIZE,)), keras.layers.Dense(2)])

def raises():
    value = 1
    raise ValueError("no such\\ncheckpoint")

def leaves():
    sys.exit(3)

def nothing():
    pass

def a_list():
    return [1]

def a_class():
    return keras.Model

not_a_function = 7
"""


@pytest.fixture
def user_file(tmp_path: Path) -> Path:
    (tmp_path / "neighbour.py").write_text("SIZE = 4\n")
    (tmp_path / "broken.py").write_text("x = 1\ny = x +\n")
    (tmp_path / "fails.py").write_text("x = 1\n\nraise RuntimeError('at import')\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(1)\n")
    (tmp_path / "text.keras").write_text("no model")
    (tmp_path / "model.h5").write_text("")
    (tmp_path / "savedmodel").mkdir()
    (tmp_path / "savedmodel/keras_metadata.pb").touch()
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported/saved_model.pb").touch()
    with zipfile.ZipFile(tmp_path / "keras2.keras", "w") as archive:
        for name, text in {"metadata.json": '{"keras_version": "2.15.0"}', "config.json": "{}"}.items():
            archive.writestr(name, text)
        archive.writestr("model.weights.h5", b"")
    (tmp_path / "own_package").mkdir()
    (tmp_path / "own_package/__init__.py").touch()
    (tmp_path / "own_package/models.py").write_text(USER_FILE)
    file = tmp_path / "user.py"
    file.write_text(USER_FILE)
    return file


class Stateful(keras.Model):
    """Unbuilt until it sees data; everything in it that a call could change."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = keras.layers.Embedding(50, 8)
        self.recurrent = keras.layers.LSTM(8, stateful=True)
        self.normalization = keras.layers.BatchNormalization()
        self.dropout = keras.layers.Dropout(0.5)
        self.head = keras.layers.Dense(3, activation="softmax")

    def call(self, tokens, training=False):
        hidden = self.normalization(self.recurrent(self.embedding(tokens)), training=training)
        return self.head(self.dropout(hidden, training=training))


def dense(units: int, activation: str | None, size: int = 4) -> keras.Model:
    return keras.Sequential([keras.Input((size,)), keras.layers.Dense(units, activation)])


def floats(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


# ---- the motivating CNN


def test_motivating_cnn_is_the_one_of_the_issue():
    # Conv 896 + 18496 + 73856 + 147584, Dense 6272*512+512 and 512*2+2, by hand.
    model = motivating_cnn()
    assert model.count_params() == 896 + 18496 + 73856 + 147584 + (7 * 7 * 128 * 512 + 512) + 1026
    assert [type(layer).__name__ for layer in model.layers][-4:] == ["Flatten", "Dropout", "Dense", "Dense"]


@pytest.mark.parametrize(("side", "padding"), [(1, "same"), (32, "same"), (45, "same"), (46, "valid")])
def test_motivating_cnn_takes_images_of_any_size(side, padding):
    model = motivating_cnn((side, side + 3, 1), 10)
    assert model.output_shape == (None, 10)
    assert model.layers[0].padding == padding


# ---- load_model


def test_load_model_from_function_beside_its_neighbour(user_file):
    assert load_model(f"{user_file}:good").output_shape == (None, 2)


def test_load_model_from_an_import_string(user_file, monkeypatch):
    monkeypatch.chdir(user_file.parent)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each])
    assert load_model("own_package.models:good").output_shape == (None, 2)
    (user_file.parent / "a_folder:photos").mkdir()
    assert not names_function("a_folder:photos") and names_function("other_folder:photos")


def test_load_model_from_a_path_with_colons(user_file, tmp_path):
    folder = tmp_path / "12:30:00"
    folder.mkdir()
    (folder / "m.py").write_text(USER_FILE.replace("neighbour.SIZE", "5").replace("import neighbour", ""))
    assert load_model(f"{folder}/m.py:good").input_shape == (None, 5)


def test_load_model_from_keras_file_keeps_weights_and_compilation(tmp_path):
    model = dense(3, "softmax")
    model.compile(optimizer=keras.optimizers.SGD(0.25), loss="sparse_categorical_crossentropy")
    model.save(tmp_path / "m.keras")
    loaded = load_model(str(tmp_path / "m.keras"))
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    training = prepare_training(loaded, floats(5, 4), np.array([0, 1, 2, 0, 1]))
    assert (training.optimizer, float(loaded.optimizer.learning_rate)) == ("SGD", 0.25)
    assert training.losses[0].reason == "the model came with it"
    assert training.losses[0].name == "sparse_categorical_crossentropy"


RESTORED = """
import keras

def from_keras():
    return keras.models.load_model("m.keras")

def from_h5():
    return keras.models.load_model("m.h5")
"""


def test_a_model_restored_by_a_persons_function_has_its_optimizer(tmp_path, monkeypatch):
    """A canary too: one day Keras may restore the optimizer of an .h5 file for its weights."""
    monkeypatch.chdir(tmp_path)
    Path("restored.py").write_text(RESTORED)
    x, y = floats(8, 4), np.arange(8) % 3
    model = dense(3, "softmax")
    model.compile(optimizer=keras.optimizers.Adam(0.25), loss="sparse_categorical_crossentropy")
    model.fit(x, y, epochs=2, verbose=0)
    for name in ("m.keras", "m.h5"):
        model.save(name)
    loaded = load_model("restored.py:from_keras")
    assert build_optimizer(loaded) == ()
    for found, saved in zip(loaded.optimizer.variables, model.optimizer.variables, strict=True):
        np.testing.assert_array_equal(found, saved)
    loaded = load_model("restored.py:from_h5")
    np.testing.assert_array_equal(loaded.get_weights()[0], model.get_weights()[0])
    with pytest.raises(ValueError, match="Unknown variable"):
        loaded.fit(x, y, verbose=0)
    (note,) = build_optimizer(loaded)
    assert "starts afresh" in note and float(loaded.optimizer.learning_rate) == 0.25
    loaded.fit(x, y, verbose=0)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("missing.py:good", ["no file", "missing.py"]),
        ("user.py", ["user.py", "names no function"]),
        ("user.py:absent", ["absent", "good"]),
        ("user.py:not_a_function", ["not_a_function", "good"]),
        ("user.py:raises", ["raises() raised ValueError", "no such", "line 10"]),
        ("user.py:leaves", ["leaves() raised SystemExit"]),
        ("user.py:nothing", ["gave a NoneType", "expected a keras.Model"]),
        ("user.py:a_list", ["gave a list", "expected a keras.Model"]),
        ("user.py:a_class", ["gave a class, not an instance"]),
        ("broken.py:good", ["broken.py", "SyntaxError"]),
        ("fails.py:good", ["RuntimeError", "at import", "line 3"]),
        ("exits.py:good", ["__main__"]),
        ("missing.keras", ["no such file", "saved by Keras 3"]),
        ("text.keras", ["cannot be read as a Keras 3 model", "FILE.py:FUNCTION"]),
        ("model.h5", ["older form", "FILE.py:FUNCTION that returns keras.models.load_model('model.h5')"]),
        ("model.weights.h5", ["holds weights and no model", "load_weights"]),
        ("savedmodel", ["is a SavedModel of Keras 2", "save it once more"]),
        ("exported", ["is a SavedModel, which", "no model that Keras could train"]),
        ("keras2.keras", ["was saved by Keras 2.15.0", "FILE.py:FUNCTION"]),
        ("nonsense", ["neither a .keras file nor FILE.py:FUNCTION or", "and there is no such file"]),
        ("user.py:godo", ["no function 'godo'", "did you mean good?"]),
        ("own_package.mine:good", ["no module 'own_package.mine' in own_package; did you mean own_package.models?"]),
        ("own_pakage.models:good", ["no module 'own_pakage' in", "did you mean own_package?"]),
        ("own_package.models:godo", ["own_package.models has no function 'godo'", "did you mean good?"]),
        ("own_package.models:raises", ["raises() raised ValueError: no such", "(line 10)"]),
    ],
)
def test_load_model_says_in_one_line_what_is_wrong(user_file, monkeypatch, spec, parts):
    monkeypatch.chdir(user_file.parent)
    with pytest.raises(UserError) as error:
        load_model(spec)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("--model")
    for part in (*parts, spec.partition(":")[0]):
        assert part in message


# ---- build_on


def test_build_on_builds_a_subclassed_model_and_leaves_its_state():
    model, tokens = Stateful(), np.arange(20, dtype=np.int32).reshape(4, 5)
    outputs = build_on(model, tokens)
    assert model.built and outputs.shape == (4, 3)
    assert all(not state.numpy().any() for state in model.recurrent.states)
    before = [variable.numpy() for variable in model.variables]
    again = build_on(model, tokens)
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    assert all(not state.numpy().any() for state in model.recurrent.states)
    np.testing.assert_array_equal(again, outputs)


def test_build_on_names_what_the_model_was_given():
    with pytest.raises(UserError, match=r"fails on the first batch of the data \(float32 \(2, 7\)\)") as error:
        build_on(dense(2, None), floats(2, 7))
    assert "\n" not in str(error.value)


# ---- apply_policy


@pytest.mark.parametrize("name", POLICIES)
def test_apply_policy_holds_inside_only(name):
    before = keras.config.dtype_policy().name
    with apply_policy(name):
        assert keras.layers.Dense(1).dtype_policy.name == name
    assert keras.config.dtype_policy().name == before


def test_apply_policy_refuses_names_it_does_not_know():
    with pytest.raises(UserError, match=r"--policy float15 .*mixed_bfloat16") as error, apply_policy("float15"):
        pass
    assert all(name in str(error.value) for name in POLICIES)


# ---- the loss


LABELS, ONE_HOT = np.array([0, 2, 1, 1]), np.eye(3, dtype=np.float32)[[0, 2, 1, 1]]


@pytest.mark.parametrize(
    ("units", "activation", "targets", "loss", "from_logits"),
    [
        (3, "softmax", LABELS, "sparse_categorical_crossentropy", False),
        (3, "softmax", LABELS[:, None].astype(np.uint8), "sparse_categorical_crossentropy", False),
        (3, "softmax", LABELS.astype(np.float32), "sparse_categorical_crossentropy", False),
        (3, None, LABELS, "sparse_categorical_crossentropy", True),
        (3, "softmax", ONE_HOT, "categorical_crossentropy", False),
        (3, None, ONE_HOT, "categorical_crossentropy", True),
        (3, None, ONE_HOT * 0.9 + np.float32(0.1 / 3), "categorical_crossentropy", True),
        (3, "sigmoid", np.array([[0, 1, 1]] * 4), "binary_crossentropy", False),
        (1, "sigmoid", np.array([0, 1, 1, 0]), "binary_crossentropy", False),
        (1, None, np.array([[0.0], [1.0], [1.0], [0.0]], np.float32), "binary_crossentropy", True),
        (1, None, np.array([0.5, 1, 2, 3], np.float32), "mean_squared_error", None),
        (1, None, np.array([7, 1, 2, 3]), "mean_squared_error", None),
        (3, None, floats(4, 3), "mean_squared_error", None),
        (3, "relu", np.full((4, 3), 2), "mean_squared_error", None),
    ],
)
def test_loss_follows_from_labels_and_outputs(units, activation, targets, loss, from_logits):
    model = dense(units, activation)
    training = prepare_training(model, floats(4, 4), targets)
    (chosen,) = training.losses
    assert chosen.name == loss and chosen.reason != "the model came with it"
    assert (training.optimizer, float(model.optimizer.learning_rate)) == ("Adam", pytest.approx(0.001))
    assert model.jit_compile is False
    assert model.loss.get_config().get("from_logits") is from_logits
    assert np.isfinite(model.train_on_batch(floats(4, 4), targets))


def test_last_operation_sees_through_nesting_reshaping_and_policies():
    inner = dense(6, "softmax")
    nested = keras.Sequential([keras.Input((4,)), inner])
    activation = keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Softmax()])
    reshaped = keras.Sequential([keras.Input((4,)), inner, keras.layers.Reshape((6,))])
    for model in (nested, activation, reshaped):
        assert last_operation(model(floats(8, 4))) == "softmax"
    with apply_policy("mixed_bfloat16"):
        assert last_operation(dense(300, "softmax")(floats(8, 4))) == "softmax"
        assert last_operation(dense(1, "sigmoid")(floats(8, 4))) == "sigmoid"
    assert last_operation(dense(6, "linear")(floats(8, 4))) == "other"


def test_canary_keras_marks_the_logits():
    # The private name that last_operation rests on; if this fails, sigmoids pass for logits.
    for function in (keras.ops.sigmoid, keras.ops.softmax, keras.activations.sigmoid, keras.activations.softmax):
        assert hasattr(function(tf.constant([[1.0, 2.0]])), "_keras_logits")
    assert not hasattr(keras.ops.relu(tf.constant([[1.0]])), "_keras_logits")


def test_distributions_of_a_narrow_format_are_softmax_and_near_misses_are_not():
    row = np.full((1, 10), 0.1)
    assert last_operation(tf.constant(row.astype(ml_dtypes.bfloat16))) == "softmax"
    assert last_operation(tf.constant((row * 1.001).astype(np.float32))) == "other"
    assert last_operation(tf.constant([[1.5, -0.5]])) == "other"


@pytest.mark.parametrize("targets", [floats(4), floats(4, 2), np.zeros((4, 5, 3), np.float32)])
def test_targets_that_fit_no_loss(targets):
    with pytest.raises(UserError, match=r"targets of output head have shape .* but its predictions \(4, 3\)"):
        choose_loss("head", tf.constant(floats(4, 3)), targets)


def test_sequence_labels_get_sparse_cross_entropy():
    chosen, loss = choose_loss("tokens", tf.constant(floats(2, 5, 7)), np.zeros((2, 5), np.int32))
    assert (chosen.name, loss.get_config()["from_logits"]) == ("sparse_categorical_crossentropy", True)


@pytest.mark.parametrize("form", ["sequence", "dict"])
def test_each_output_gets_its_own_loss(form):
    image = keras.Input((4,), name="image")
    kind = keras.layers.Dense(3, "softmax", name="zz_kind")(image)
    size = keras.layers.Dense(1, name="size")(image)
    outputs = {"zz_kind": kind, "size": size} if form == "dict" else [kind, size]
    targets = {"zz_kind": LABELS, "size": floats(4, 1)} if form == "dict" else (LABELS, floats(4, 1))
    model = keras.Model(image, outputs)
    training = prepare_training(model, floats(4, 4), targets)
    names = {loss.output: loss.name for loss in training.losses}
    assert names == {"zz_kind": "sparse_categorical_crossentropy", "size": "mean_squared_error"}
    classes = dict(zip([loss.output for loss in training.losses], training.num_classes, strict=True))
    assert classes == {"zz_kind": 3, "size": None}
    model.train_on_batch(floats(4, 4), targets)


def test_targets_must_be_as_many_as_the_outputs():
    image = keras.Input((4,))
    model = keras.Model(image, [keras.layers.Dense(3)(image), keras.layers.Dense(1)(image)])
    with pytest.raises(UserError, match="1 targets; the model has 2"):
        prepare_training(model, floats(4, 4), LABELS)


def test_dict_targets_must_have_the_outputs_names():
    image = keras.Input((4,))
    model = keras.Model(image, {"a": keras.layers.Dense(3)(image)})
    with pytest.raises(UserError, match="named b; the model's are named a"):
        prepare_training(model, floats(4, 4), {"b": LABELS})


def test_no_targets_and_no_loss():
    with pytest.raises(UserError, match="no targets and the model no loss"):
        prepare_training(dense(3, None), floats(4, 4), None)


# ---- what came with the model


def test_compiled_without_loss_keeps_its_optimizer():
    model = dense(3, "softmax")
    model.compile(optimizer=keras.optimizers.SGD(0.5))
    training = prepare_training(model, floats(4, 4), LABELS)
    assert (training.optimizer, float(model.optimizer.learning_rate)) == ("SGD", 0.5)
    assert model.loss.name == "sparse_categorical_crossentropy"


def test_a_train_step_of_its_own_stands_for_the_loss():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.head = keras.layers.Dense(2)

        def call(self, x):
            return self.head(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return keras.ops.mean(y_pred)

        def train_step(self, data):
            raise AssertionError

    model = Own()
    training = prepare_training(model, floats(4, 4), None)
    assert training.losses[0].name == "Own.train_step"
    assert training.losses[0].reason == "the model came with it" and training.optimizer == "Adam"


@pytest.mark.parametrize(("policy", "scaled"), [("mixed_float16", True), ("mixed_bfloat16", False)])
def test_mixed_float16_scales_its_loss(policy, scaled):
    with apply_policy(policy):
        model = dense(3, "softmax")
    training = prepare_training(model, floats(4, 4), LABELS)
    assert (training.policy, training.optimizer) == (policy, "Adam")
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer) == scaled
    assert model.loss.get_config()["from_logits"] is False


# ---- signature


def test_signature_of_nested_and_compiled_models():
    nested = keras.Sequential([keras.Input((4,)), dense(6, "sigmoid")])
    nested.compile(loss=keras.losses.SparseCategoricalCrossentropy(ignore_class=-1))
    (output,) = signature_of(nested).outputs
    assert (output.activation, output.loss) == ("sigmoid", "sparse_categorical_crossentropy")
    assert (output.num_classes, output.ignored_class) == (6, -1)


def test_signature_finds_the_embedding_that_reads_an_input():
    tokens, other = keras.Input((5,), dtype="int32", name="tokens"), keras.Input((3,), name="other")
    hidden = keras.layers.Flatten()(keras.layers.Embedding(11, 2)(tokens))
    model = keras.Model([tokens, other], keras.layers.Concatenate()([hidden, other]))
    signature = signature_of(model)
    assert [(spec.name, spec.num_tokens) for spec in signature.inputs] == [("tokens", 11), ("other", None)]
    assert signature.input_form == "sequence"


def test_an_unbuilt_model_has_no_signature():
    assert signature_of(Stateful()) is None
    assert signature_of(keras.Sequential([keras.layers.Dense(2)])) is None
