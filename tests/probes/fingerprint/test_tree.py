"""Summation trees: of sums whose order is known."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from probes.fingerprint.arithmetic import order_of
from probes.fingerprint.orders import tree_of
from probes.fingerprint.sums import alone
from probes.fingerprint.tree import NotATree, NothingLost, Unstable
from probes.fingerprint.wording import drawn, in_words, nested
from tests.probes.adders import (
    blocked,
    evaluated,
    folded,
    pairwise,
    products_of,
    random_tree,
    running,
    sequential,
    tensor_core,
    terms_of,
)


def canonical(tree: Any) -> Any:
    """Children by their smallest leaf, as addition has no order."""
    if isinstance(tree, int):
        return tree
    return tuple(sorted(map(canonical, tree), key=lambda child: min(_leaves(child))))


def _leaves(tree: Any) -> list[int]:
    return [tree] if isinstance(tree, int) else [leaf for child in tree for leaf in _leaves(child)]


def numpy_sum(x: np.ndarray) -> np.ndarray:
    """Each row by itself, contiguous: what NumPy's inner loop adds up."""
    return np.array([np.sum(np.ascontiguousarray(row)) for row in x])


def published_numpy_tree(num_terms: int) -> Any:
    """NumPy's inner loop as its source has it (numpy/_core/src/umath/loops_utils.h.src, pairwise sum, 8 to 128 terms).

    r[k] takes every eighth term, then ((r0 + r1) + (r2 + r3)) + ((r4 + r5) + (r6 + r7)).  FPRev (USENIX ATC 2025)
    reports its 32-term sum as 8-way, for SIMD instructions.
    """
    lanes: list[Any] = []
    for lane in range(8):
        total: Any = lane
        for term in range(lane + 8, num_terms, 8):
            total = (total, term)
        lanes.append(total)
    a, b, c, d, e, f, g, h = lanes
    return (((a, b), (c, d)), ((e, f), (g, h)))


@pytest.mark.parametrize("num_terms", [16, 32, 128])
def test_numpy_sum_has_its_published_tree(num_terms: int) -> None:
    found = tree_of(terms_of(numpy_sum, num_terms))
    assert found == canonical(published_numpy_tree(num_terms))
    assert in_words(found) == "8 running sums added pairwise"


@settings(max_examples=60, deadline=None)
@given(num_terms=st.integers(2, 24), widest=st.integers(2, 9), seed=st.integers(0, 2**31))
def test_any_tree_is_found(num_terms: int, widest: int, seed: int) -> None:
    tree = random_tree(range(num_terms), random.Random(seed), widest)
    found = tree_of(terms_of(lambda x: evaluated(tree, x), num_terms))
    assert found == canonical(tree)
    assert in_words(found) and len(drawn(found).splitlines()) == nested(found).count("(") + num_terms


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (sequential, "sequential"),
        (lambda x: sequential(x[:, ::-1]), "sequential from the last term to the first"),
        (lambda x: sequential(x[:, [0, *range(2, 32), 1]]), "sequential in another order"),
        (lambda x: sequential(x[:, np.arange(32) ^ 1]), "sequential with each pair swapped"),
        (pairwise, "pairwise"),
        (folded, "pairwise (second half onto first)"),
        (running(8, pairwise), "8 running sums added pairwise"),
        (running(4, sequential), "4 running sums added one after another"),
        (running(2, sequential), "2 running sums added"),
        (blocked(8), "4 blocks of 8 terms (each sequential) added one after another"),
        (blocked(12), "blocks of 8 to 12 terms (each sequential) added one after another"),
        (tensor_core(4, 24, 0, np.trunc), "blocks of 4 added as one"),
        (tensor_core(8, 24, 2, np.trunc), "blocks of 8 added as one"),
        (tensor_core(16, 24, 1, np.rint), "blocks of 16 added as one"),
        (tensor_core(32, 24, 1, np.trunc), "all 32 added as one"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_patterns_have_names(add: Any, words: str, dtype: str) -> None:
    asked = products_of(lambda x: add(x.astype(np.float32)), 32, dtype)
    assert in_words(tree_of(asked)) == words


def test_narrow_sums_in_their_own_format() -> None:
    """float16 sums in float16: a product of 2^30 would overflow, so a smaller M is taken."""
    add = terms_of(sequential, 16, np.float16)
    assert in_words(tree_of(add)) == "sequential"
    assert in_words(tree_of(products_of(lambda x: sequential(x.astype(np.float16)), 16, np.float16))) == "sequential"


def test_a_new_order_at_each_call_is_said_to_be_one() -> None:
    source = np.random.default_rng(0)
    asked = terms_of(lambda x: sequential(source.permuted(x, axis=1)), 16)
    with pytest.raises(Unstable):
        tree_of(asked)
    assert order_of(asked).words == "order not the same from call to call"


def test_an_order_that_depends_on_the_element() -> None:
    """Element 0 is summed from the front, all others from the back."""

    def add(x: np.ndarray) -> np.ndarray:
        return np.concatenate([sequential(x[:1]), sequential(x[1:, ::-1])])

    asked = terms_of(add, 16)
    found = order_of(asked)
    assert (found.words, found.everywhere) == ("sequential, otherwise in other elements", False)
    assert in_words(tree_of(alone(asked))) == "sequential"


def test_a_transformed_sum_has_no_tree() -> None:
    """As minimal filtering does: x + y + z = (4x - 5y + z) / 4 + 3/2 (y + z) + 3/4 (y - z), each part summed alone."""

    def add(terms: np.ndarray) -> np.ndarray:
        x, y, z = (terms[:, start::3] for start in range(3))
        with np.errstate(all="ignore"):
            first, second, third = sequential(4 * x - 5 * y + z), sequential(y + z), sequential(y - z)
            return first / 4 + second * np.float32(1.5) + third * np.float32(0.75)

    asked = products_of(lambda x: add(x.astype(np.float32)), 15)
    with pytest.raises(NotATree):
        tree_of(asked)
    assert "transformed" in order_of(asked).words


def test_a_sum_that_loses_nothing_has_no_order() -> None:
    import math

    exact = terms_of(lambda x: np.array([math.fsum(row) for row in x.astype(np.float64)]), 16)
    with pytest.raises(NothingLost):
        tree_of(exact)
    assert "nothing is lost" in order_of(exact).words


def test_nested_and_drawn() -> None:
    tree = ((0, 1), 2, 3)
    assert nested(tree) == "((0 1) 2 3)"
    assert drawn(tree) == "+\n├─+\n│ ├─x0\n│ └─x1\n├─x2\n└─x3"
