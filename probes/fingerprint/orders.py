"""The summation tree of a `Sum`: which M and which unit its dtype and its accumulator can hold.  NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from probes.fingerprint.sums import Doubles, Sum
from probes.fingerprint.tree import NotATree, OutOfRange, Pair, Tree, reveal

# (M, unit), tried in turn.  M must absorb up to n - 2 units in any accumulator, and must not overflow in it; n units
# must be a number of the output's dtype.  Products reach further than float16 does: 2^15 2^15 is held by a float32
# accumulator.  One of float16 takes 2^15, which absorbs 2^-14 with room for 2^17 units.
SCALES = {
    "float32": ((2.0**127, 1.0), (2.0**30, 2.0**-14)),
    "bfloat16": ((2.0**127, 1.0), (2.0**30, 2.0**-14)),
    "float16": ((2.0**30, 2.0**-14), (2.0**15, 2.0**-24), (2.0**15, 2.0**-14)),
}

NUM_REPEATS = 3


def tree_of(asked: Sum) -> Tree:
    """Raises NotATree, of the first scale that counts, or OutOfRange where none does, or Unstable."""
    failure: NotATree | None = None
    for large, unit in scales(asked):
        if not _counts(asked, large, unit):
            continue
        try:
            return reveal(lambda pairs, m=large, u=unit: _units(asked, pairs, m, u), asked.num_terms)  # type: ignore[misc]
        except NotATree as error:
            failure = failure or error
    raise failure or OutOfRange("units are lost, or a large number and its negative do not cancel")


def scales(asked: Sum) -> Iterator[tuple[float, float]]:
    for large, unit in SCALES[asked.dtype.name]:
        if asked.has_factors or large <= asked.format.largest:
            yield large, unit


def is_repeatable(asked: Sum) -> bool:
    """Whether the very same call, each question in the same place, is answered alike every time."""
    n = asked.num_terms
    pairs = [(0, other) for other in range(1, n)][: asked.num_questions]
    large, unit = next(scales(asked))
    first = _units(asked, pairs, large, unit)
    return all(np.array_equal(_units(asked, pairs, large, unit), first, equal_nan=True) for _ in range(NUM_REPEATS))


def _counts(asked: Sum, large: float, unit: float) -> bool:
    """Whether one unit and all of them are seen, and M less M is a number."""
    n = asked.num_terms
    rows = np.zeros((3, n))
    rows[0], rows[1, 0] = unit, unit
    rows[2, 0], rows[2, -1] = large, -large
    answers = asked.values(rows)
    return bool(np.isfinite(answers).all() and answers[0] and answers[1])


def _units(asked: Sum, pairs: Sequence[Pair], large: float, unit: float) -> Doubles:
    terms = np.full((len(pairs), asked.num_terms), unit)
    rows = np.arange(len(pairs))
    terms[rows, [i for i, _ in pairs]] = large
    terms[rows, [j for _, j in pairs]] = -large
    return asked.values(terms) / unit
