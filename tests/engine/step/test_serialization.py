"""A training step as bytes and back: what comes back trains as Keras does, and damage is noticed."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.serialization import FORMATS, Damaged, NotStorable, dump, load, with_state
from diag.engine.step.tracing import flat_batch, trace
from diag.errors import UserError
from diag.machine.places import parse_place
from tests import zoo

CASES = [(zoo.mlp, "mixed_bfloat16"), (zoo.cnn, "mixed_float16"), (zoo.lstm, "float32"),
         (zoo.branching, "float32")]  # fmt: skip


class Positions(keras.layers.Layer):
    """Holds a constant that is too large for TensorFlow to write it into the graph."""

    def build(self, shape: Any) -> None:
        self.values = tf.constant(np.linspace(-1, 1, 40 * 8).reshape(40, 8), tf.float32)

    def call(self, x: Any) -> Any:
        return x + tf.reduce_sum(self.values, 0)


class Table(keras.layers.Layer):
    def build(self, shape: Any) -> None:
        pairs = tf.lookup.KeyValueTensorInitializer(tf.constant([0, 1], tf.int64), tf.constant([0.1, 0.2]))
        self.table = tf.lookup.StaticHashTable(pairs, 0.0)

    def call(self, x: Any) -> Any:
        return x + self.table.lookup(tf.cast(x > 0, tf.int64))


class Python(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        doubled = tf.py_function(lambda value: 2 * value, [x], x.dtype)
        doubled.set_shape(x.shape)
        return doubled


def with_layer(layer: type[keras.layers.Layer]) -> keras.Model:
    return keras.Sequential([keras.Input((5,)), keras.layers.Dense(8), layer(), keras.layers.Dense(3, "softmax")])


def in_another_form(program: Program) -> Program:
    """Out of its bytes, with the state that the model has now."""
    return with_state(load(dump(program)), [variable.numpy() for variable in program.initial_state()])


def assert_trains_as_keras(model: keras.Model, program: Program, batches: list[Batch]) -> None:
    """Bit for bit the losses and the whole state of `model.train_on_batch`."""
    lane = Lane.at("reference", parse_place("CPU:0"), program, 0)
    steps = CompiledSteps(lane, program)
    for batch in batches:
        mine = steps.run([tf.constant(x) for x in flat_batch(batch)], ())[program.loss]
        theirs = model.train_on_batch(batch.inputs, batch.targets, return_dict=True)["loss"]
        model.reset_metrics()
        assert float(mine) == float(theirs)
    known = {id(v): v for v in [*model.variables, *model.optimizer.variables]}
    found = {spec.name: value.numpy() for spec, value in zip(program.variables, lane.variables, strict=True)}
    own = [value for name, value in found.items() if not name.startswith("metrics/")]  # not a loss's running mean
    assert [x.tobytes() for x in own] == [np.asarray(v.value).tobytes() for v in known.values()]


@pytest.mark.parametrize(("make", "policy"), CASES)
def test_a_step_out_of_its_bytes_trains_as_keras(make: Any, policy: str) -> None:
    model, batches = zoo.made(make, policy), [zoo.batch_for(make, seed=seed) for seed in range(2)]
    program = in_another_form(trace(model, batches[0]))
    assert_trains_as_keras(model, program, batches)


def test_what_is_known_of_a_step_comes_back() -> None:
    program = trace(zoo.made(zoo.lstm), zoo.batch_for(zoo.lstm))
    back = load(dump(program))
    assert [(n.name, n.op, n.inputs, {*n.control}, n.dtypes, n.location) for n in back.graph] == [
        (n.name, n.op, n.inputs, {*n.control}, n.dtypes, n.location) for n in program.graph
    ]
    assert [[shape.as_list() for shape in n.shapes if shape.rank is not None] for n in back.graph] == [
        [shape.as_list() for shape in n.shapes if shape.rank is not None] for n in program.graph
    ]
    assert [n.location for body in back.functions.values() for n in body] == [
        n.location for body in program.functions.values() for n in body
    ]
    assert [n.location.index for n in back.ops] == list(range(len(program.ops)))
    for name in ("variables", "layers", "loss", "layer_outputs", "gradients", "batch_inputs", "captures"):
        assert getattr(back, name) == getattr(program, name), name


def test_the_same_step_gives_the_same_bytes() -> None:
    program = trace(zoo.made(zoo.mlp), zoo.batch_for(zoo.mlp))
    assert dump(load(dump(program))) == dump(program)


def test_a_captured_constant_is_kept_and_trains_as_keras() -> None:
    def positions() -> keras.Model:
        return with_layer(Positions)

    model, batch = zoo.made(positions), zoo.batch_for(zoo.mlp)
    program = trace(model, batch)
    (expected,) = program.constants.values()  # so there is something to be lost
    back = in_another_form(program)
    assert [value.numpy().tobytes() for value in back.constants.values()] == [expected.numpy().tobytes()]
    assert_trains_as_keras(model, back, [batch])


@pytest.mark.parametrize(("layer", "why"), [(Table, "resource"), (Python, "Python function")])
def test_what_lives_in_a_process_only_is_not_stored(layer: type[keras.layers.Layer], why: str) -> None:
    def one() -> keras.Model:
        return with_layer(layer)

    program = trace(zoo.made(one), zoo.batch_for(zoo.mlp))
    with pytest.raises(NotStorable, match=why):
        dump(program)


@pytest.fixture(scope="module")
def blob() -> bytes:
    return dump(trace(zoo.made(zoo.perceptron), zoo.batch_for(zoo.perceptron)))


def test_a_changed_byte_is_noticed_or_changes_nothing(blob: bytes) -> None:
    """Deflate has bits that mean nothing; all others change what the CRC of a part is taken of."""
    with zipfile.ZipFile(io.BytesIO(blob)) as archive:
        parts, contents = archive.infolist(), {name: archive.read(name) for name in archive.namelist()}
    noticed = 0
    for part in parts:
        start = part.header_offset + 30 + len(part.filename)  # the local header's length: APPNOTE.TXT 4.3.7
        for at in np.linspace(start, start + part.compress_size - 1, 25).astype(int):
            changed = bytearray(blob)
            changed[at] ^= 1
            try:
                load(bytes(changed))
            except Damaged:
                noticed += 1
                continue
            with zipfile.ZipFile(io.BytesIO(changed)) as archive:
                assert {name: archive.read(name) for name in archive.namelist()} == contents
    assert noticed > 40  # of 50


@pytest.mark.parametrize("share", [0.0, 0.3, 0.999])
def test_bytes_that_end_early_are_noticed(blob: bytes, share: float) -> None:
    with pytest.raises(Damaged):
        load(blob[: int(share * len(blob))])


def edited(blob: bytes, **changes: Any) -> bytes:
    """The same archive with other entries in its document."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(blob)) as old, zipfile.ZipFile(written, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "program.json":
                content = json.dumps(json.loads(content) | changes).encode()
            new.writestr(name, content)
    return written.getvalue()


def test_a_newer_format_is_refused(blob: bytes) -> None:
    with pytest.raises(UserError, match=r"format 3; expected at most 2"):
        load(edited(blob, format=max(FORMATS.values()) + 1))
