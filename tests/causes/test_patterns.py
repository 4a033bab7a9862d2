"""Where wrong elements are, in words: masks drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest

from diag.causes.patterns import describe_elements


def mask(shape: tuple[int, ...], *wrong: object) -> np.ndarray:
    found = np.zeros(shape, bool)
    for index in wrong:
        found[index] = True
    return found


IMAGE = ("batch", "height", "width", "channel")
MATRIX = ("row", "column")


@pytest.mark.parametrize(
    ("wrong", "axes", "words"),
    [
        (mask((2, 4, 4, 8), np.s_[..., 7]), IMAGE, "all in channel 7 (the last of 8)"),
        (mask((2, 4, 4, 128), np.s_[..., 127]), IMAGE, "all in channel 127 (the last of 128)"),
        (mask((2, 4, 4, 8), np.s_[..., 3]), IMAGE, "all in channel 3"),
        (mask((40, 5), np.s_[20:]), MATRIX, "all in rows from 20 to the end (the last 20 of 40)"),
        (
            mask((40, 5), np.s_[32:]), MATRIX,
            "all in rows from 32 to the end (the last 8, in the unfinished tile of 32)",
        ),
        (mask((64, 5), np.s_[32:]), MATRIX, "all in rows from 32 to the end (the last tile of 32)"),
        (mask((40, 5), np.s_[:8]), MATRIX, "all in rows before 8"),
        (mask((40, 5), np.s_[8:16]), MATRIX, "all in rows 8 to 15"),
        (mask((5, 24), np.s_[:, 1::4]), MATRIX, "all in every 4th column from 1"),
        (mask((5, 24), np.s_[:, 1::2]), MATRIX, "all in every 2nd column from 1"),
        (
            mask((5, 24), np.s_[2:, 0::8]), MATRIX,
            "all in rows from 2 to the end (the last 3 of 5); every 8th column from 0",
        ),
        (mask((3, 20), np.s_[:, [2, 3, 11]]), MATRIX, "all in columns 2, 3, 11"),
        (mask((3, 30), np.s_[:, [0, 1, 5, 9, 10, 22]]), MATRIX, "all in 6 of 30 columns"),
        (mask((3, 5000), np.s_[:, [c for c in range(1024, 5000) if c % 1024 < 3]]), MATRIX,
         "all in columns from 1024 on, period 1024, 3 of each"),
        (mask((2, 5, 6, 3), np.s_[:, [0, 4]], np.s_[:, :, [0, 5]]), IMAGE,
         "all at the edge: the first 1 and last 1 of height; the first 1 and last 1 of width"),
        (mask((2, 5, 6, 3), np.s_[:, 3:], np.s_[:, :, 5]), IMAGE,
         "all at the edge: the last 2 of height; the last 1 of width"),
        (mask((2, 9), np.s_[:, [0, 8]]), MATRIX, "all in columns 0, 8"),
        (mask((2, 3), np.s_[:]), MATRIX, "everywhere"),
        (np.eye(6, dtype=bool), MATRIX, "scattered over all axes"),
        (mask((1, 6), np.s_[0, 5]), (), "all in axis-1 index 5 (the last of 6)"),
    ],
)  # fmt: skip
def test_the_region_in_words(wrong, axes, words):
    found = describe_elements(wrong, axes)
    assert (found["num_wrong"], found["size"], found["where"]) == (np.count_nonzero(wrong), wrong.size, words)


def test_whether_the_whole_region_is_wrong():
    assert describe_elements(mask((4, 6), np.s_[2:, 1]))["every_element_there"] is True
    assert "every_element_there" not in describe_elements(mask((4, 6), (2, 1), (3, 2)))


@pytest.mark.parametrize("wrong", [np.zeros((3, 4), bool), np.zeros((0, 4), bool)])
def test_nothing_wrong_has_no_region(wrong):
    assert describe_elements(wrong) == {"num_wrong": 0, "size": wrong.size}


def test_a_scalar_has_no_axes():
    assert describe_elements(np.array(True)) == {"num_wrong": 1, "size": 1}
