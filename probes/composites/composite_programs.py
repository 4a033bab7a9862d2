"""A program that shows one wrong row of a composite."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diag.machine.places import Place
from probes.composites.compositions import Composition
from probes.composites.rounding_noise import Excess
from probes.frame.reproducer import Expected, reproducer

NAMES = ("x", "target")


def program(
    composition: Composition,
    dtype_name: str,
    arrays: Sequence[npt.NDArray[Any]],
    upstream: npt.NDArray[Any] | None,
    worst: Excess,
    place: Place,
) -> str:
    """Of the row that holds the worst element; "" where a row does not stand alone, as in a batch's statistics.

    upstream: of the gradient that is wrong; None where the result is.
    """
    if not composition.text or worst.index is None:
        return ""
    row = worst.index[0]
    setup = [f"{name} = {_array(each[row : row + 1])}" for name, each in zip(NAMES, arrays, strict=False)]
    body = composition.text.format(dtype=dtype_name)
    if upstream is not None:
        setup.append(f"upstream = {_array(upstream[row : row + 1].astype(arrays[0].dtype))}")
        lines = ["with tf.GradientTape() as tape:", "    tape.watch(x)", f"    y = {body}"]
        body = "\n".join([*lines, "return tape.gradient(y, x, upstream)"])
    position = worst.index[1] if len(worst.index) > 1 else 0
    title = (
        f"{composition.name} {dtype_name} {'result' if upstream is None else 'gradient'} is not what rounding explains"
    )
    lines, allowed = [f"expected = np.array([{worst.right!r}])"], f"{abs(worst.got - worst.right) / 2:.6g}"
    return reproducer(title, setup, body, Expected(lines, [position], allowed), place)


def _array(values: npt.NDArray[Any]) -> str:
    dtype = values.dtype.name
    wide = values.astype(np.float32).tolist() if values.dtype.kind != "i" else values.tolist()
    made = f"np.array({wide})"
    return f"{made}.astype(tf.{dtype}.as_numpy_dtype)"
