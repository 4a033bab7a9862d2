"""Where wrong elements are, in words: masks drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diag.verdict.patterns import describe_elements


def mask(shape: tuple[int, ...], *wrong: object) -> np.ndarray:
    found = np.zeros(shape, bool)
    for index in wrong:
        found[index] = True
    return found


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (mask((2, 4, 4, 8), np.s_[..., 7]), "axis 3: only 7 (the last)"),
        (mask((2, 4, 4, 8), np.s_[..., 3]), "axis 3: only 3"),
        (mask((40, 5), np.s_[32:]), "axis 0: from 32 to the end"),
        (mask((40, 5), np.s_[:8]), "axis 0: before 8"),
        (mask((40, 5), np.s_[8:16]), "axis 0: 8 to 15"),
        (mask((5, 24), np.s_[:, 1::4]), "axis 1: every 4th from 1"),
        (mask((5, 24), np.s_[2:, 0::8]), "axis 0: from 2 to the end; axis 1: every 8th from 0"),
        (mask((3, 20), np.s_[:, [2, 3, 11]]), "axis 1: only 2, 3, 11"),
        (mask((3, 30), np.s_[:, [0, 1, 5, 9, 10, 22]]), "axis 1: 6 of 30"),
        (mask((2, 3), np.s_[:]), "scattered over all axes"),
        (np.eye(6, dtype=bool), "scattered over all axes"),
        (mask((1, 6), np.s_[0, 5]), "axis 1: only 5 (the last)"),
    ],
)
def test_the_region_in_words(wrong, words):
    found = describe_elements(wrong)
    assert found == {"num_wrong": int(np.count_nonzero(wrong)), "size": wrong.size, "where": words}


@pytest.mark.parametrize("wrong", [np.zeros((3, 4), bool), np.zeros((0, 4), bool)])
def test_nothing_wrong_has_no_region(wrong):
    assert describe_elements(wrong) == {"num_wrong": 0, "size": wrong.size}


def test_a_scalar_has_no_axes():
    assert describe_elements(np.array(True)) == {"num_wrong": 1, "size": 1}
