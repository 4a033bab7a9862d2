"""The part of a step that works on texts, against what Keras's own layers make of them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.step.arrays import texts_as_bytes
from diag.engine.step.batch import Batch, map_leaves
from diag.engine.step.texts import TextPart, text_part
from diag.engine.step.tracing import flat_batch, trace
from diag.errors import UserError
from tests import kinds, zoo


def batch_of(data: tuple[object, object], size: int = 4) -> Batch:
    return Batch(*(map_leaves(lambda array: texts_as_bytes(array[:size]), part) for part in data))


def made(model: keras.Model) -> keras.Model:
    if not model.compiled:
        model.compile(
            "adam", "binary_crossentropy" if isinstance(model.input, dict) else "sparse_categorical_crossentropy"
        )
    return model


@pytest.fixture(scope="module")
def table() -> tuple[keras.Model, Batch, TextPart]:
    model, batch = made(kinds.table()), batch_of(kinds.table_data())
    part = text_part(trace(model, batch))
    assert part is not None
    return model, batch, part


def test_a_step_of_numbers_has_none():
    assert text_part(trace(zoo.made(zoo.mlp), zoo.batch_for(zoo.mlp))) is None


def test_it_gives_what_the_layers_give(table):
    model, batch, part = table
    assert part.layers == ("colours", "codes")
    given = part.given(flat_batch(batch))
    looked_up = [
        model.get_layer(name)(tf.constant(batch.inputs[key]))
        for name, key in (("colours", "colour"), ("codes", "code"))
    ]
    for expected in looked_up:
        assert any(each.shape == expected.shape and np.array_equal(each, expected) for each in given)


def test_the_rest_has_neither_texts_nor_tables(table):
    _, batch, part = table
    rest = part.rest
    signature = [(array.shape, array.dtype.name) for array in part.given(flat_batch(batch))]
    assert rest.batch_signature == signature
    assert not any(tf.string in node.dtypes for node in rest.graph)
    assert not any(value.dtype == tf.resource for value in rest.constants.values())
    assert {node.location.layer for node in rest.graph if node.op == "Bucketize"} == {"bounds"}  # of numbers: it stays
    assert not {"colours", "codes"} & rest.layer_outputs.keys()


def test_lengths_that_only_the_texts_tell_are_known_in_the_end():
    model, batch = made(kinds.sentences()), batch_of(kinds.sentences_data())
    part = text_part(trace(model, batch))
    given = part.given(flat_batch(batch))
    longest = max(len(text.split()) for text in batch.inputs.tolist())
    shapes = part.shapes_if_unknown(given)
    assert list(shapes.values()) == [(4, longest)]
    again = text_part(trace(model, batch, shapes=shapes))
    assert again.rest.batch_signature[-1] == ((4, longest), "int64")
    assert all(shape.is_fully_defined() for node in again.rest.graph if node.op == "Softmax" for shape in node.shapes)


class Mixed(keras.layers.Layer):
    """Texts of weights, of which nothing can be computed beforehand."""

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones", name="scale")

    def call(self, x):
        texts = tf.strings.join([x, tf.strings.as_string(self.scale)])
        return tf.cast(tf.strings.length(texts), "float32")[:, None] * self.scale


def test_texts_that_weights_have_a_part_in_are_refused_with_the_layers_name():
    inputs = keras.Input((), dtype="string")
    model = made(kinds.classifier(inputs, Mixed(name="mixed")(inputs)))
    program = trace(model, batch_of(kinds.sentences_data()))
    with pytest.raises(UserError, match=r"mixed computes on texts and on weights together \(StringJoin\)"):
        text_part(program)
