"""Two traced steps are one computation whatever their layers are called, and the first difference is named."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from diag.common.modes import PREDICT
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.same_steps import first_difference, paired_variables
from diag.engine.step.tracing import trace

BATCH = Batch(np.zeros((2, 5, 4), np.float32))


def program(cell: str = "lstm", epsilon: float = 1e-3, recurrent: str = "sigmoid", shift: float = 0.0) -> Program:
    layers = keras.layers
    numbers = np.full(4, shift, np.float32)
    model = keras.Sequential(
        [
            keras.Input((5, 4)),
            layers.Normalization(mean=numbers, variance=numbers + 1, name="scaled"),
            layers.LSTM(3, recurrent_activation=recurrent, name=cell),
            layers.BatchNormalization(epsilon=epsilon, name="norm"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )
    return trace(model, BATCH, mode=PREDICT)


@pytest.fixture(scope="module")
def first() -> Program:
    return program()


def test_names_play_no_part_and_variables_are_paired_by_what_reads_them(first):
    other = program("another")
    assert first_difference(first, other) is None
    names = [(first.variables[i].name, other.variables[j].name) for i, j in paired_variables(first, other).items()]
    assert ("lstm/lstm_cell/kernel", "another/lstm_cell/kernel") in names and len(names) == 9
    assert all(a.split("/")[-1] == b.split("/")[-1] for a, b in names)


@pytest.mark.parametrize(
    ("settings", "layer", "what"),
    [
        ({"epsilon": 1e-5}, "norm", "value of Const is 0.001 and 1e-05"),
        ({"recurrent": "tanh"}, "lstm", "Sigmoid and Tanh"),  # in the body of a loop
        ({"shift": 1.0}, "scaled", "and [["),
    ],
)
def test_the_first_difference_is_in_the_layer_that_makes_it(first, settings, layer, what):
    found = first_difference(first, program(**settings))
    assert found.first.location.layer == found.second.location.layer == layer and what in found.what
