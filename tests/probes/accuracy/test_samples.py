"""Inputs reach every exponent, both signs and the cases that are known to be hard."""

from __future__ import annotations

import math

import numpy as np
import pytest

from probes.accuracy import samples


def test_samples_reach_every_exponent_of_both_signs():
    x = samples.inputs("float32", 1 << 16, seed=0)
    bits = x.view(np.uint32) >> 23
    assert np.unique(bits).size == 512


@pytest.mark.parametrize(
    "value", [88.7228394, -88.7228394, 87.33654, 0.0, math.inf, -math.inf, 2.0**-149, 2.0**-126, 3.4028235e38, 1.0,
              1.0000001192092896, 0.9999999403953552, 1.5707963705062866, 103993 * 0.0]
)  # fmt: skip
def test_hard_inputs_are_among_them(value):
    assert np.any(samples.hard() == np.float32(value))


def test_so_are_those_on_which_glibc_errs_most():
    assert np.isin(np.array([0x3E6EE50C, 0xBBE7328F, 0x631D36F8], np.uint32), samples.hard().view(np.uint32)).all()


@pytest.mark.parametrize("dtype_name", ["float16", "bfloat16"])
def test_all_numbers_of_a_narrow_format_are_tried(dtype_name):
    x = samples.inputs(dtype_name, 10, seed=0)
    assert np.unique(x.view(np.uint16)).size == 1 << 16


@pytest.mark.parametrize("dtype_name", ["float32", "float16", "bfloat16"])
def test_pairs_hold_neighbours_and_special_numbers(dtype_name):
    with np.errstate(invalid="ignore"):  # signalling NaN among them
        x, y = (each.astype(np.float64) for each in samples.pairs(dtype_name, None, 1 << 12, seed=0))
        assert np.any((x == 0) & np.isinf(y))
        near = (x != y) & (np.abs(x - y) < 0.02 * np.abs(x))
    assert np.count_nonzero(near) > 100
    within, _ = samples.pairs(dtype_name, (-4, 3), 1 << 12, seed=0)
    assert np.all((np.abs(within.astype(np.float64)) >= 2.0**-4) & (np.abs(within.astype(np.float64)) <= 8))
