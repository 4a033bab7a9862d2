"""The right values where they do not belong: moved by NumPy, told from each other by name."""

from __future__ import annotations

import numpy as np
import pytest

from diag.causes.causes import explain
from diag.numerics.op_classes import ErrorClass
from tests.causes.wrong_outputs import case, normal

IMAGE = ("batch", "height", "width", "channel")


@pytest.mark.parametrize(
    ("move", "words"),
    [
        (lambda x: np.roll(x, 1, axis=3), "channel: rolled by 1 of 8"),
        (lambda x: np.roll(x, 5, axis=2), "width: rolled by 5 of 6"),
        (lambda x: np.roll(x, 4, axis=3), "channel: halves swapped"),
        (lambda x: x[:, ::-1], "height: reversed"),
        (lambda x: x.transpose(0, 3, 1, 2).reshape(x.shape), "written in the order batch x channel x height x width"),
        (lambda x: x[:, ::-1, ::-1], "height and width: reversed"),
        (lambda x: x[:, ::-1, ::-1, ::-1], None),
    ],
)
def test_moves_by_name(move, words):
    truth = normal(2, 5, 6, 8)
    output = np.ascontiguousarray(move(truth))
    cause = explain(case(output, truth, ErrorClass.COMPOSITE, axes=IMAGE))
    assert (cause.name, cause.evidence.get("summary")) == ("permuted", words)
    assert cause.evidence["num_moved"] == np.count_nonzero(output != truth)


@pytest.mark.parametrize(
    ("axis", "kept", "left", "words"),
    [
        (2, slice(0, 5), slice(1, 6), "width: 1 of 6 later, zeros left behind"),
        (1, slice(2, 5), slice(0, 3), "height: 2 of 5 earlier, zeros left behind"),
    ],
)
def test_what_a_move_left_behind_is_zero(axis, kept, left, words):
    """The wrong padding of a transposed convolution."""
    truth, output = normal(2, 5, 6, 8), np.zeros((2, 5, 6, 8), np.float32)
    np.moveaxis(output, axis, 0)[left] = np.moveaxis(truth, axis, 0)[kept]
    cause = explain(case(output, truth, ErrorClass.COMPOSITE, axes=IMAGE))
    assert (cause.name, cause.evidence.get("summary")) == ("permuted", words)
    np.moveaxis(output, axis, 0)[left] += 1
    assert explain(case(output, truth, ErrorClass.COMPOSITE, axes=IMAGE)).name == "unknown"


def test_a_move_by_one_may_repeat_the_edge():
    truth = normal(2, 5, 6, 8)
    output = truth[:, :, [0, 0, 1, 2, 3, 4]]
    cause = explain(case(output, truth, ErrorClass.COMPOSITE, axes=IMAGE))
    assert (cause.name, cause.evidence["summary"]) == ("permuted", "width: 1 of 6 later, the edge repeated")


def test_values_that_were_computed_anew_are_permuted_as_well():
    """Each is a rounding away from the one that belongs elsewhere."""
    truth = normal(6, 8)
    output = np.roll(truth, 2, axis=0) * np.float32(1 + 2.0**-23)
    assert explain(case(output, truth)).evidence["summary"] == "axis 0: rolled by 2 of 6"


def slice_of(parent: np.ndarray, output: np.ndarray, truth: np.ndarray, **more):
    return case(output, truth, ErrorClass.EXACT, inputs=[parent.astype(np.float64), np.array([1, 2])], **more)


def test_a_slice_read_as_if_it_were_contiguous():
    parent = normal(6, 8)
    truth = np.ascontiguousarray(parent[:, 2:5])
    for start in (0, 7):
        output = parent.reshape(-1)[start : start + truth.size].reshape(truth.shape)
        cause = explain(slice_of(parent, output, truth))
        assert (cause.name, cause.evidence["start"]) == ("permuted", start)


def test_other_elements_of_the_input_than_those_asked_for():
    parent = normal(6, 8)
    truth, output = np.ascontiguousarray(parent[:, 2:5]), np.ascontiguousarray(parent[:, 5:8])
    cause = explain(slice_of(parent, output, truth))
    assert cause.evidence["summary"] == "elements of input 0, but others than those asked for"


def test_values_from_nowhere_are_not_permuted():
    parent = normal(6, 8)
    truth = np.ascontiguousarray(parent[:, 2:5])
    assert explain(slice_of(parent, truth + 1, truth)).name == "unknown"


def test_one_channel_holds_what_belongs_in_another():
    truth = normal(2, 3, 3, 16)
    output = truth.copy()
    output[..., 0], output[..., 15] = truth[..., 15], 0
    cause = explain(case(output, truth, axes=IMAGE))
    assert cause.name == "wrong-elements"
    assert cause.evidence["holds"] == {"channel 0": "what belongs in channel 15", "channel 15": "zeros"}
    assert cause.evidence["where"] == "all in channels 0, 15"
