"""Distributions: NumPy's own draws pass; each way of being wrong that a check is for is found."""

from __future__ import annotations

import numpy as np
import pytest

from probes.randomness import distributions as law

NUM = 1 << 15


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def uniform() -> np.ndarray:
    return generator().random(NUM, np.float32)


def deviates() -> np.ndarray:
    return generator().normal(size=NUM).astype(np.float32)


def integers() -> np.ndarray:
    return generator().integers(-(2**31), 2**31, NUM, dtype=np.int32)


def shuffled() -> np.ndarray:
    return generator().permutation(1000).astype(np.int32)


SOUND = {
    "uniform": (law.uniform(), uniform()),
    "float16 uniform": (law.uniform(2.0**-10), (np.floor(uniform() * 1024) / 1024).astype(np.float16)),
    "normal": (law.normal(), deviates()),
    "truncated": (law.truncated_normal(), deviates()[np.abs(deviates()) < 2]),
    "dice": (law.discrete(1, [1 / 6] * 6), generator().integers(1, 7, NUM)),
    "endless": (law.discrete(0, [0.5, 0.25, 0.25], endless=True), generator().geometric(0.5, NUM) - 1),
    "dropout": (law.dropout(0.25), np.where(uniform() < 0.25, 0, np.float32(1 / 0.75)).astype(np.float32)),
    "shuffle": (law.permutation, shuffled()),
    "all integers": (law.full_integers, integers()),
    "no period": (law.without_period, uniform()),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_draws_pass(name):
    check, draws = SOUND[name]
    assert check(draws).wrong == ()


def with_one(x: np.ndarray) -> np.ndarray:
    x[17] = 1.0
    return x


ALL_APART = (np.arange(1 << 20, dtype=np.uint32) * np.uint32(2654435761)).view(np.int32)  # odd: no two are equal
WRONG = {
    "1 drawn": (law.uniform(), with_one(uniform()), "outside [0, 1), such as 1"),
    "NaN drawn": (law.uniform(), np.where(np.arange(NUM) == 5, np.nan, uniform()), "not finite"),
    "shifted": (law.uniform(), uniform() * 0.97, "mean"),
    "narrow": (law.uniform(), 0.25 + uniform() / 2, "variance"),
    "two lumps": (law.uniform(), np.where(uniform() < 0.5, 0.211, 0.789), "distance"),
    "no tails": (law.normal(), np.clip(generator().normal(size=1 << 19), -3.9, 3.9), "beyond 4"),
    "beyond 2": (law.truncated_normal(), deviates(), "outside [-2, 2]"),
    "loaded dice": (law.discrete(1, [1 / 6] * 6), np.minimum(generator().integers(1, 8, NUM), 6), "shares"),
    "a seven": (law.discrete(1, [1 / 6] * 6), generator().integers(1, 8, NUM), "outside 1 to 6, such as 7"),
    "not scaled": (law.dropout(0.25), (uniform() >= 0.25).astype(np.float32), "not 1.33333"),
    "another rate": (law.dropout(0.25), np.where(uniform() < 0.3, 0, np.float32(1 / 0.75)), "is dropped"),
    "lost elements": (law.permutation, np.minimum(shuffled(), 997), "no permutation"),
    "not shuffled": (law.permutation, np.arange(1000), "stayed"),
    "blocks twice": (law.full_integers, np.tile(integers()[: NUM // 2], 2), "128 bits come twice"),
    "few bits": (law.full_integers, integers() & ~np.int32(1), "a bit is set"),
    "never equal": (law.full_integers, ALL_APART, "come twice, where 128 are expected"),
    "same for all threads": (law.without_period, np.tile(uniform()[:256], NUM // 256), "256 apart"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name):
    check, draws, says = WRONG[name]
    found = check(draws)
    assert found.wrong
    assert any(says in text for text in found.wrong)


def test_together_says_what_each_says():
    found = law.together(law.uniform(), law.without_period)(np.tile(with_one(uniform())[:256], NUM // 256))
    assert any("outside" in text for text in found.wrong) and any("apart" in text for text in found.wrong)
    assert {"largest", "lag_sigmas"} <= {*found.figures}
