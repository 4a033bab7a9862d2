"""The numbers next to a number: a tensor moved by one rounding."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from diag.numerics.formats import Format, format_of
from diag.numerics.ulp import ulp


def moved_by_one_ulp(
    x: npt.NDArray[Any], generator: np.random.Generator, format: Format | None = None
) -> npt.NDArray[Any]:
    """`x` with every finite element moved one step up or down, at random.

    One step of x's own dtype, or of `format` where that is coarser: a float32 weight that is used in
    float16 has to move by a ULP of float16 to make any difference there.  The largest finite number
    moves down only, NaN and infinities stay.  Zero moves to a subnormal number, which TensorFlow
    takes as zero: a weight that is zero is not perturbed.

    Args:
        x: float16, bfloat16, float32 or float64, any shape.
        generator: where the directions come from.
        format: the format in which the step is measured; x's own by default.

    Returns:
        A new array of x's shape and dtype.

    Raises:
        TypeError: where x is of no floating dtype of ours.
    """
    own = format_of(x.dtype)
    up = generator.integers(0, 2, x.shape, dtype=np.int8).astype(bool)
    with np.errstate(over="ignore", under="ignore"):
        if format is None or format.precision >= own.precision:
            infinity = np.asarray(np.inf, x.dtype)
            above, below = np.nextafter(x, infinity), np.nextafter(x, -infinity)
        else:
            wide = x.astype(np.float64)
            step = ulp(wide, format)
            above, below = ((wide + signed).astype(x.dtype) for signed in (step, -step))
    above, below = (np.where(np.isfinite(a), a, b) for a, b in ((above, below), (below, above)))
    moved = np.where(up, above, below)
    return np.where(np.isfinite(x), moved, x).astype(x.dtype, copy=False)
