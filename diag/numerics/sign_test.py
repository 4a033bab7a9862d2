"""How likely signs that should be tosses of a coin lean one way as far as they do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def chance_of_lean(weights: Sequence[int], lean: int) -> float:
    """The chance that signed weights, each sign a toss of a fair coin, sum to `lean` or more, either way.

    Exact, by adding up the distribution weight by weight.  It rests on the signs alone: that each is as likely to be
    plus as minus, and independent of the others.  Of n equal weights that all have one sign it is 2 / 2^n, as in the
    sign test (Fisher 1935, The Design of Experiments, section 21, has the one with weights).

    Args:
        weights: positive whole numbers.
        lean: the magnitude of their signed sum.
    """
    reach = sum(weights)
    if lean <= 0:
        return 1.0
    chances: npt.NDArray[np.float64] = np.zeros(reach + 1)  # by the sum of the weights that have a plus
    chances[0] = 1.0
    for weight in weights:
        halved = chances / 2
        halved[weight:] += chances[:-weight] / 2
        chances = halved
    return min(1.0, 2.0 * float(chances[math.ceil((reach + lean) / 2) :].sum()))
