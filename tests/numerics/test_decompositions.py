"""Decompositions of NumPy (LAPACK) with signs and rotations of any kind pass; what is no decomposition does not."""

import numpy as np
import pytest

from diag.numerics.decompositions import ratio_of
from diag.numerics.formats import FLOAT32

RANDOM = np.random.default_rng(0)
MATRICES = RANDOM.normal(size=(5, 6, 4)).astype(np.float32)
SQUARES = np.swapaxes(MATRICES, 1, 2) @ MATRICES
DOUBLE = np.broadcast_to(np.diag([1, 2, 2, 3]).astype(np.float32), (2, 4, 4))  # equal values: any basis of their plane


def _ratio(op: str, matrix: np.ndarray, *outputs: np.ndarray) -> float:
    ratio = ratio_of(op, matrix.astype(np.float64), [x.astype(np.float32).astype(np.float64) for x in outputs], FLOAT32)
    assert ratio is not None
    return ratio


def _decomposed(op: str) -> tuple[np.ndarray, list[np.ndarray]]:
    if op == "SelfAdjointEigV2":
        return SQUARES, list(np.linalg.eigh(SQUARES))
    if op == "Svd":
        left, values, right = np.linalg.svd(MATRICES, full_matrices=False)
        return MATRICES, [values, left, np.swapaxes(right, 1, 2)]
    return MATRICES, list(np.linalg.qr(MATRICES))


@pytest.mark.parametrize("op", ["SelfAdjointEigV2", "Svd", "Qr"])
def test_signs_are_free_and_nothing_else(op):
    matrix, outputs = _decomposed(op)
    assert _ratio(op, matrix, *outputs) < 3
    signs = np.array([1, -1, -1, 1], np.float32)
    flipped = [x if x.ndim == 2 else x * (signs[:, None] if op == "Qr" and x is outputs[1] else signs) for x in outputs]
    assert _ratio(op, matrix, *flipped) < 3
    for position, output in enumerate(outputs):
        for wrong in (output * (1 + 2.0**-11), np.where(np.arange(4) < 3, output, 0), output[..., ::-1]):
            changed = [wrong if at == position else x for at, x in enumerate(outputs)]
            assert _ratio(op, matrix, *changed) > 30


def test_vectors_of_equal_values_may_be_rotated():
    values, vectors = (x.astype(np.float64) for x in np.linalg.eigh(DOUBLE))
    turn = np.eye(4)
    turn[1:3, 1:3] = [[0.6, -0.8], [0.8, 0.6]]
    assert _ratio("SelfAdjointEigV2", DOUBLE, values, vectors @ turn) < 3
    turn[0:2, 0:2] = [[0.6, -0.8], [0.8, 0.6]]
    assert _ratio("SelfAdjointEigV2", DOUBLE, values, vectors @ turn) > 30


def test_what_cannot_be_asked():
    assert ratio_of("Cholesky", SQUARES, [SQUARES], FLOAT32) is None
    assert ratio_of("SelfAdjointEigV2", SQUARES, [SQUARES[:, 0], np.zeros(0)], FLOAT32) is None  # values alone
    assert ratio_of("Qr", MATRICES, [MATRICES, np.full((4, 4), np.nan)], FLOAT32) == np.inf
