"""MatMul, BatchMatMul and Einsum of integers: every transpose, sizes around tiles, long sums, broadcasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from probes.exact.case import Case, case, share_of, sparse
from probes.exact.judging import only_some, sweep
from probes.frame.plan import FLOAT_DTYPES, Choice, Probe

ROWS_COLUMNS = ("row", "column")
SIZES = (1, 2, 15, 16, 17, 31, 32, 33, 127, 128, 129)
LONG = (1023, 1024, 1025, 4097, 32767, 32768, 32769)
MANY = 65537  # more than a grid of 2^16 blocks has


def probes(choice: Choice) -> Iterator[Probe]:
    for dtype in (*FLOAT_DTYPES, "int32"):
        for name, make in SWEEPS.items():
            if dtype != "int32" or name == "sizes":
                yield sweep("MatMul", dtype, name, only_some(choice, make(dtype), dtype))
        yield sweep("BatchMatMulV2", dtype, "batches and broadcasts", only_some(choice, batches(dtype), dtype))
        if dtype != "int32":
            yield sweep("Einsum", dtype, "equations", only_some(choice, equations(dtype), dtype))


def product(label: str, sizes: tuple[int, int, int], dtype: str, flip_a: bool = False, flip_b: bool = False) -> Case:
    """sizes: rows, the length of the sums, columns.  flip_a, flip_b: whether an operand is stored transposed."""
    m, k, n = sizes
    share = share_of(k, dtype)
    a, b = (k, m) if flip_a else (m, k), (n, k) if flip_b else (k, n)
    body = f"tf.raw_ops.MatMul(a=a, b=b, transpose_a={flip_a}, transpose_b={flip_b})"
    return case(
        label, body, {"a": sparse(m + k, a, share), "b": sparse(n + 2 * k + 1, b, share)},
        lambda a, b: (a.T if flip_a else a) @ (b.T if flip_b else b), axes=ROWS_COLUMNS, is_sum=True,
    )  # fmt: skip


def sizes(dtype: str) -> list[Case]:
    """Every size once as rows, once as columns, once as the length of the sums."""
    count = len(SIZES)
    triples = [(SIZES[i], SIZES[(i + 4) % count], SIZES[(i + 7) % count]) for i in range(count)]
    return [product(f"{m} x {k} by {k} x {n}", (m, k, n), dtype) for m, k, n in triples]


def transposes(dtype: str) -> list[Case]:
    return [
        product(f"{m} x {k} by {k} x {n}{' a' * a}{' b' * b} transposed", (m, k, n), dtype, a, b)
        for m, k, n in ((17, 33, 15), (1, 129, 33), (64, 31, 1))
        for a, b in ((True, False), (False, True), (True, True))
    ]


def long_sums(dtype: str) -> list[Case]:
    return [
        product(f"K = {k}{' a' * (k % 2)}{' b' * (k % 3 == 0)} transposed" if k % 2 or k % 3 == 0 else f"K = {k}",
                (5 if k > 5000 else 17, k, 9), dtype, bool(k % 2), k % 3 == 0)
        for k in LONG
    ]  # fmt: skip


def extremes(dtype: str) -> list[Case]:
    return [
        product(f"{MANY} rows", (MANY, 3, 2), dtype),
        product(f"{MANY} columns", (2, 3, MANY), dtype),
        product("no rows", (0, 5, 3), dtype),
        product("sums of nothing", (3, 0, 5), dtype),
        product("1 x 1", (1, 1, 1), dtype),
    ]


def batches(dtype: str) -> list[Case]:
    rows = (
        ((3, 17, 31), (3, 31, 15), False, False),
        ((2, 3, 16, 33), (2, 3, 33, 17), True, False),
        ((5, 1, 9, 65), (1, 4, 65, 3), False, True),  # broadcast both ways
        ((7, 8), (6, 8, 9), False, False),
        ((129, 2, 5), (129, 5, 2), True, True),
        ((0, 4, 5), (0, 5, 6), False, False),
        ((1, 1, 2049), (1, 2049, 1), False, False),
        ((4, 2, 33, 16), (4, 2, 16, 33), False, True),  # queries by keys
    )
    return [batch(a, b, flip_a, flip_b, dtype) for a, b, flip_a, flip_b in rows]


def batch(a: tuple[int, ...], b: tuple[int, ...], flip_a: bool, flip_b: bool, dtype: str) -> Case:
    """a: (..., m, k), b: (..., k, n); what is flipped is stored the other way round."""
    share = share_of(a[-1], dtype)
    stored_a, stored_b = _flipped(a) if flip_a else a, _flipped(b) if flip_b else b
    label = f"{a} by {b}{' a' * flip_a}{' b' * flip_b}{' transposed' * (flip_a or flip_b)}"

    def oracle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.swapaxes(-1, -2) if flip_a else a) @ (b.swapaxes(-1, -2) if flip_b else b)

    return case(
        label, f"tf.raw_ops.BatchMatMulV2(x=a, y=b, adj_x={flip_a}, adj_y={flip_b})",
        {"a": sparse(a[-2], stored_a, share), "b": sparse(b[-1] + 50, stored_b, share)}, oracle,
        axes=("batch", *ROWS_COLUMNS) if max(len(a), len(b)) == 3 else (), is_sum=True,
    )  # fmt: skip


def _flipped(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:-2], shape[-1], shape[-2])


def equations(dtype: str) -> list[Case]:
    rows = (
        ("ij,jk->ik", (17, 33), (33, 15), 33),
        ("bij,bkj->bik", (3, 17, 31), (3, 9, 31), 31),
        ("abc,cde->abde", (3, 5, 17), (17, 4, 15), 17),  # a Dense over several axes, as Keras' EinsumDense
        ("BTNH,BSNH->BNTS", (2, 9, 3, 16), (2, 7, 3, 16), 16),  # attention
        ("BNTS,BSNH->BTNH", (2, 3, 9, 7), (2, 7, 3, 17), 7),
        ("ab,ab->", (33, 31), (33, 31), 33 * 31),
        ("i,j->ji", (129,), (17,), 1),
        ("bn,anm->bam", (5, 33), (3, 33, 2), 33),
    )
    return [
        case(text, f'tf.einsum("{text}", a, b)',
             {"a": sparse(number, a, share_of(terms, dtype)), "b": sparse(number + 20, b, share_of(terms, dtype))},
             lambda a, b, text=text: np.einsum(text, a, b), is_sum=True)
        for number, (text, a, b, terms) in enumerate(rows)
    ]  # fmt: skip


SWEEPS: dict[str, Callable[[str], list[Case]]] = {
    "sizes": sizes,
    "transposes": transposes,
    "long sums": long_sums,
    "extreme sizes": extremes,
}
