"""Sums made by hand, for the fingerprint's tests: orders written out, and adders of several terms as hardware has them.

Nothing here is shared with probes/fingerprint.  Arrays of questions are (questions, terms).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from probes.fingerprint.sums import Sum

Array = np.ndarray


def sequential(x: Array) -> Array:
    total = x[:, 0].copy()
    for k in range(1, x.shape[1]):
        total = total + x[:, k]
    return total


def pairwise(x: Array) -> Array:
    while x.shape[1] > 1:
        x = x[:, ::2] + x[:, 1::2]
    return x[:, 0]


def folded(x: Array) -> Array:
    while x.shape[1] > 1:
        half = x.shape[1] // 2
        x = x[:, :half] + x[:, half:]
    return x[:, 0]


def running(count: int, last: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """`count` running sums of every count-th term, then added by `last`."""
    return lambda x: last(np.stack([sequential(x[:, lane::count]) for lane in range(count)], axis=1))


def blocked(size: int) -> Callable[[Array], Array]:
    """Blocks of `size` consecutive terms, each summed by itself, then added one after another."""
    return lambda x: sequential(np.stack([sequential(x[:, k : k + size]) for k in range(0, x.shape[1], size)], axis=1))


def tensor_core(block: int, bits: int, extra: int, whole: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Blocks of `block` terms and the running sum, added as one.

    All are aligned to the largest of them and cut off `extra` bits below the last of its `bits`; their sum is made a
    number of `bits` bits by `whole`, which makes whole numbers: np.trunc, np.rint...
    Terms are float64 and exact; so is every sum here, of fewer than 53 bits.
    """

    def add(x: Array) -> Array:
        total = np.zeros(len(x))
        for start in range(0, x.shape[1], block):
            terms = np.column_stack([total, x[:, start : start + block]])
            grid = _last_place(np.abs(terms).max(axis=1), bits) * 2.0**-extra
            exact = np.trunc(terms / grid[:, None]).sum(axis=1) * grid
            place = _last_place(np.abs(exact), bits)
            total = whole(exact / place) * place
        return total

    return add


def rounded_fma(bits: int, whole: Callable[[Array], Array], fused: bool = True) -> Callable[[Array, Array], Array]:
    """Products added one by one to a running sum of `bits` bits, exactly or (not `fused`) rounded to `bits` before."""

    def add(a: Array, b: Array) -> Array:
        total = np.zeros(len(a))
        for k in range(a.shape[1]):
            product = a[:, k] * b[:, k]
            if not fused:
                product = _to_bits(product, bits, whole)
            total = _to_bits(_sticky_sum(total, product), bits, whole)
        return total

    return add


def _sticky_sum(a: Array, b: Array) -> Array:
    """a + b in float64, moved by one place where it is not exact: to fewer bits it rounds as the exact sum does."""
    total = a + b
    there = total - a
    lost = (a - (total - there)) + (b - there)  # Knuth's two-sum
    return np.where(lost == 0, total, np.nextafter(total, np.copysign(np.inf, lost)))


def _to_bits(x: Array, bits: int, whole: Callable[[Array], Array]) -> Array:
    place = _last_place(np.abs(x), bits)
    return whole(x / place) * place


def _last_place(size: Array, bits: int) -> Array:
    exponent = np.frexp(np.where(size > 0, size, 1.0))[1]
    return np.where(size > 0, np.ldexp(1.0, exponent - bits), 1.0)


def terms_of(add: Callable[[Array], Array], num_terms: int, dtype: Any = np.float32) -> Sum:
    """A plain sum of numbers of a dtype, which `add` gets in that dtype."""
    return Sum("by hand", np.dtype(dtype), num_terms, 16, False, lambda a, _: np.asarray(add(a), np.float64))


def products_of(add: Callable[[Array], Array], num_terms: int, dtype: Any = np.float32) -> Sum:
    """A sum of exact products, which `add` gets as float64; the result is rounded to the dtype."""
    return product_sum(lambda a, b: add(a * b), num_terms, dtype)


def product_sum(add: Callable[[Array, Array], Array], num_terms: int, dtype: Any = np.float32) -> Sum:
    def compute(a: Array, b: Array) -> Array:
        with np.errstate(all="ignore"):
            return add(a.astype(np.float64), b.astype(np.float64)).astype(dtype).astype(np.float64)

    return Sum("by hand", np.dtype(dtype), num_terms, 16, True, compute)


def random_tree(leaves: Sequence[int], source: random.Random, widest: int) -> Any:
    """A tree over the leaves in any order, each node of two to `widest` children."""
    if len(leaves) == 1:
        return leaves[0]
    shuffled = list(leaves)
    source.shuffle(shuffled)
    count = source.randint(2, min(widest, len(leaves)))
    cuts = sorted(source.sample(range(1, len(leaves)), count - 1))
    parts = [shuffled[a:b] for a, b in zip([0, *cuts], [*cuts, len(leaves)], strict=True)]
    return tuple(random_tree(part, source, widest) for part in parts)


def evaluated(tree: Any, x: Array) -> Array:
    """A sum in the order of a tree: two children by float32 addition, more as one, cut off at float32's last place."""
    if isinstance(tree, int):
        return x[:, tree].astype(np.float64)
    terms = np.column_stack([evaluated(child, x) for child in tree])
    grid = _last_place(np.abs(terms).max(axis=1), 24)
    return np.trunc(terms / grid[:, None]).sum(axis=1) * grid
