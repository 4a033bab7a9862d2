"""One source of random numbers: the op or Keras function, its law, and how it is seeded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from probes.randomness import distributions as law

FAMILY = "random"


Maker = Callable[[Any, int], Callable[..., Any]]


@dataclass(frozen=True)
class Source:
    """One way to draw random numbers, and what its draws must satisfy.

    make: given a DeviceUnderTest and how many, the function that draws: of a seed, two int32, where `takes_seed`; else
    its state lies in variables made by `make` at the place, or in the op itself.  check: what the draws must satisfy.
    uniform: whether it draws from [0, 1), by an expression of TensorFlow that a program can show.
    """

    op: str
    dtype: str
    case: str
    make: Maker
    check: law.Check
    takes_seed: bool = True
    many: bool = False
    is_quick: bool = False
    uniform: str = ""
