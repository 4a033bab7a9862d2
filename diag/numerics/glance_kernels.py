"""The compiled loops behind `glances`."""

from __future__ import annotations

import numpy as np

from diag.numerics.loops import BLOCK, Array, compiled, load


# "reassoc": the sums may be taken in any order, and so in vectors.
@compiled("reassoc")
def distances(
    a: Array, b: Array, a_bits: Array, b_bits: Array, table: Array, magnitude_mask: int, infinity: int
) -> tuple[int, float, float, int]:
    """How many differ, zeros of two signs apart; the sums of (b - a)^2 and a^2; how many are not finite."""
    unequal, nonfinite = 0, 0
    differences, references = 0.0, 0.0
    buffers = np.empty((2, BLOCK))
    for start in range(0, a.size, BLOCK):
        stop = min(start + BLOCK, a.size)
        r, x = buffers[0, : stop - start], buffers[1, : stop - start]
        load(a[start:stop], table, r)
        load(b[start:stop], table, x)
        unequal_here, nonfinite_here = _counts(a_bits[start:stop], b_bits[start:stop], magnitude_mask, infinity)
        unequal += unequal_here
        nonfinite += nonfinite_here
        for i in range(r.size):
            difference = x[i] - r[i]
            differences += difference * difference
            references += r[i] * r[i]
    return unequal, differences, references, nonfinite


@compiled()
def _counts(a: Array, b: Array, magnitude_mask: int, infinity: int) -> tuple[int, int]:
    unequal, nonfinite = 0, 0
    for i in range(a.size):
        unequal += (a[i] != b[i]) & (((a[i] | b[i]) & magnitude_mask) != 0)
        nonfinite += ((a[i] & magnitude_mask) >= infinity) | ((b[i] & magnitude_mask) >= infinity)
    return unequal, nonfinite
