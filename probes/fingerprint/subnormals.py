"""Whether subnormal numbers are taken for zero, where they go in and where they come out.  NumPy only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.fingerprint.sums import Doubles, Sum

KEPT, FLUSHED, OTHER = "kept", "flushed", "neither kept nor flushed"


@dataclass(frozen=True)
class Subnormals:
    """KEPT, FLUSHED or OTHER.

    inputs: operands, times a power of two that makes their product normal; in a plain sum, terms that add up to a
        normal number.  products: results of one product.  sums: results of a subtraction.  "" where there is none; a
        mean of subnormal numbers is subnormal itself and tells nothing.
    """

    inputs: str
    products: str
    sums: str

    def __str__(self) -> str:
        if not self.inputs:
            return ""
        answers = {"in": self.inputs, "out": self.products or self.sums}
        if len(set(answers.values())) == 1:
            return f"subnormals {self.inputs}"
        return ", ".join(f"subnormals {how} {where}" for where, how in answers.items())


def subnormals_of(asked: Sum) -> Subnormals:
    if asked.scale != 1:
        return Subnormals("", "", "")
    normal = asked.format.smallest_normal
    n = asked.num_terms
    difference = np.zeros((1, n))
    difference[0, 0], difference[0, -1] = 1.5 * normal, -normal
    if not asked.has_factors:
        terms = np.zeros((2, n))
        terms[:, :4] = [[normal / 4] * 4, [normal / 2, normal / 2, 0, 0]]
        inputs = _read(asked(terms), np.array([normal, normal]))
        return Subnormals(inputs, "", _read(asked(difference), np.array([normal / 2])))
    up = 2.0**10
    a, b = np.zeros((3, n)), np.ones((3, n))
    a[:, 0] = [normal / 16, up, 0.5 * np.sqrt(normal)]
    b[:, 0] = [up, normal / 16, 0.5 * np.sqrt(normal)]
    first, second, product = asked(a, b)
    inputs = _read(np.array([first, second]), np.array([normal / 16 * up] * 2))
    products = _read(np.array([product]), np.array([normal / 4]))
    return Subnormals(inputs, products, _read(asked(difference, np.ones((1, n))), np.array([normal / 2])))


def _read(got: Doubles, kept: Doubles) -> str:
    if np.array_equal(got, kept):
        return KEPT
    return FLUSHED if not got.any() else OTHER
