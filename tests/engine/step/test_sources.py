"""Which line of the person's own made an op: laid down beside a model of which each line is known."""

from __future__ import annotations

import linecache

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.common.source_lines import is_their_own
from diag.engine.step.batch import Batch
from diag.engine.step.layer_lines import layers_watched, line_of_layer
from diag.engine.step.tracing import trace
from diag.engine.training.models import load_model

MODEL = """
import keras
import tensorflow as tf


class Own(keras.layers.Layer):
    def build(self, shape):
        self.w = self.add_weight(shape=(shape[-1], 4))
        self.inner = keras.layers.Dense(4)  # made

    def call(self, x):
        x = tf.matmul(x, self.w)
        x = tf.nn.relu(x)
        return self.inner(x) - 1.0


def loss(y, p):
    return tf.square(y - p)


def model():
    inputs = keras.Input((6, 6, 3))
    conv = keras.layers.Conv2D(2, 3)
    x = conv(inputs)  # called
    x = Own()(keras.layers.Flatten()(x))
    x = keras.Sequential([keras.layers.Dense(3, activation="relu")])(x)
    made = keras.Model(inputs, x)
    made.compile("sgd", loss)
    return made
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "model.py").write_text(MODEL)
    return folder


@pytest.fixture(scope="module")
def program(folder):
    before = keras.layers.Layer.__new__, keras.layers.Layer.__call__
    model = load_model(f"{folder}/model.py:model")
    assert (keras.layers.Layer.__new__, keras.layers.Layer.__call__) == before
    return trace(model, Batch(np.zeros((2, 6, 6, 3), np.float32), np.zeros((2, 3), np.float32)))


def line_of(program, op, layer, phase):
    """The text of the one line that made the ops of a type in a layer and phase; None where none is known."""
    found = [n.location for n in program.ops if n.op == op and n.location.phase == phase]
    lines = {program.lines.get(at.index) for at in found if (at.layer or "").startswith(layer)}
    assert len(lines) == 1
    return getattr(lines.pop(), "text", None)


@pytest.mark.parametrize(
    ("op", "layer", "phase", "text"),
    [
        ("Conv2D", "conv2d", "forward", "x = conv(inputs)  # called"),
        ("Conv2DBackpropFilter", "conv2d", "backward", "x = conv(inputs)  # called"),
        ("MatMul", "own", "forward", "x = tf.matmul(x, self.w)"),
        ("MatMul", "own", "backward", "x = tf.matmul(x, self.w)"),
        ("ReluGrad", "own", "backward", "x = tf.nn.relu(x)"),
        ("BiasAdd", "dense", "forward", None),  # of two layers, told apart below
        ("Square", "loss", "forward", "return tf.square(y - p)"),
        ("AssignSubVariableOp", "conv2d", "optimizer", None),
    ],
)
def test_an_op_knows_the_line_that_made_it(program, op, layer, phase, text):
    if op == "BiasAdd":
        lines = {
            program.lines[n.location.index].text for n in program.ops if n.op == op and n.location.layer != "conv2d"
        }
        dense = 'x = keras.Sequential([keras.layers.Dense(3, activation="relu")])(x)'
        assert lines == {"return self.inner(x) - 1.0", dense}
    else:
        assert line_of(program, op, layer, phase) == text


def test_a_line_has_its_file_number_and_function(program, folder):
    line = next(line for line in program.lines.values() if "tf.matmul" in line.text)
    number = 1 + MODEL.splitlines().index("        x = tf.matmul(x, self.w)")
    assert (line.file, line.line, line.function) == (f"{folder}/model.py", number, "call")
    assert str(line) == f"{folder}/model.py:{number}: x = tf.matmul(x, self.w)"


def test_what_is_installed_is_not_their_own_and_a_cell_is():
    assert not any(map(is_their_own, (tf.__file__, keras.__file__, linecache.__file__, "nowhere.py", "<string>")))
    cell = "layer = keras.layers.Dense(1)\n"
    linecache.cache["<cell 3>"] = (len(cell), None, [cell], "<cell 3>")
    scope = {"keras": keras}
    with layers_watched():
        exec(compile(cell, "<cell 3>", "exec"), scope)
    assert str(line_of_layer(scope["layer"])) == "<cell 3>:1: layer = keras.layers.Dense(1)"
