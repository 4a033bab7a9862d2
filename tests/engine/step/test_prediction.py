"""A prediction step is what `predict` computes, and nothing of training is in it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.common.modes import PREDICT
from diag.engine.graphs.locations import FORWARD, PREDICT_LAYER
from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.batch import Batch
from diag.engine.step.named_tensors import UPDATES, series_of
from diag.engine.step.program import Program, mean_of
from diag.engine.step.serialization import dump, load, with_state
from diag.engine.step.tracing import flat_batch, trace
from diag.errors import UserError
from diag.machine.places import parse_place
from tests import zoo


class Classifier(keras.Model):
    """Predicts a class and its score by a step of its own, and lacks a loss."""

    def __init__(self) -> None:
        super().__init__()
        self.scores = keras.layers.Dense(4, name="scores")
        self.drop = keras.layers.Dropout(0.5, name="drop")

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        return self.drop(self.scores(x), training=training)

    def predict_step(self, data):
        scores = tf.nn.softmax(self(keras.utils.unpack_x_y_sample_weight(data)[0], training=False))
        return {"score": tf.reduce_max(scores, -1), "class": tf.argmax(scores, -1)}


def results_of(program: Program, batch: Batch) -> list[np.ndarray]:
    lane = Lane.at("reference", parse_place("CPU:0", None, None), program, 0)
    values = CompiledSteps(lane, program).run([tf.constant(x) for x in flat_batch(batch)], ())
    return [to_numpy(values[port]) for port in program.predictions]


@pytest.mark.parametrize("make", [zoo.cnn, zoo.xception_block, Classifier])
def test_a_prediction_step_gives_the_bits_that_predict_gives(make):
    keras.utils.set_random_seed(3)
    model = make()  # never compiled
    batch = (zoo.batch_for(zoo.mlp if make is Classifier else make)).without_targets()
    program = trace(model, batch, mode=PREDICT)
    expected = keras.tree.flatten(model.predict_on_batch(batch.inputs))
    expected = [each for each in expected if np.asarray(each).dtype.kind in "fi"]
    assert len(expected) == (2 if make is Classifier else 1)
    stored = with_state(load(dump(program)), [variable.value for variable in program.keras_variables])
    for each in (program, stored):
        for mine, theirs in zip(results_of(each, batch), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
    assert stored.mode == PREDICT and stored.results == program.results
    assert program.loss is None and not program.losses and not program.gradients and not program.random_ports
    assert {op.location.phase for op in program.ops} == {FORWARD}
    assert not any(series.kind == UPDATES for series in series_of(program))


def test_what_a_predict_step_computes_outside_of_layers_has_its_name():
    model = Classifier()
    program = trace(model, zoo.batch_for(zoo.mlp).without_targets(), mode=PREDICT)
    assert {op.location.layer for op in program.ops if op.op in ("Softmax", "Max", "ArgMax")} == {PREDICT_LAYER}
    assert program.layer_outputs[PREDICT_LAYER] == program.results
    assert set(program.results) <= set(program.watched.ports)


def test_a_step_that_predicts_no_numbers_is_refused():
    class Named(Classifier):
        def predict_step(self, data):
            return tf.constant("nothing")

    with pytest.raises(UserError, match="gives no tensor of numbers"):
        trace(Named(), zoo.batch_for(zoo.mlp).without_targets(), mode=PREDICT)


def test_the_mean_is_of_all_elements_of_all_outputs():
    assert mean_of([np.array([1, 2], np.int64), np.array([[6.0]], np.float32)]) == 3.0
    assert np.isnan(mean_of([np.zeros((0, 3), np.float32)])) and np.isnan(mean_of([np.array([np.inf, -np.inf])]))


def test_of_texts_that_a_step_gives_the_numbers_they_are_made_of_are_compared():
    class Labelled(Classifier):
        def predict_step(self, data):
            return tf.gather(tf.constant(["a", "b", "c", "d"]), super().predict_step(data)["class"])

    model, batch = Labelled(), zoo.batch_for(zoo.mlp).without_targets()
    program = trace(model, batch, mode=PREDICT)
    (classes,) = results_of(program, batch)
    np.testing.assert_array_equal(np.array([b"a", b"b", b"c", b"d"])[classes], model.predict_on_batch(batch.inputs))
    assert load(dump(program)).results == program.results  # texts are beyond what a trace may hold
