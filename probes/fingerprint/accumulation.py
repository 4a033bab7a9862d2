"""How a sum is kept: its width, its rounding, what an adder of several terms keeps beyond it; and its products.

Fasi, Higham, Mikaitis, Pranesh 2021, "Numerical behavior of NVIDIA tensor cores"; Li et al. 2024, "FTTN".  A large M,
then a small s, then -M: what comes back is s as the running sum M + s had kept it.  The tree says which terms are
added in this order.  NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from probes.fingerprint.sums import Doubles, Sum
from probes.fingerprint.tree import Tree, first_leaf, leaves, nodes

Triple = tuple[int, int, int]
LARGE = 1.5 * 2.0**12  # 1.5: neither M + s nor M - s leaves its binade; 2^12: M and s are products of float16
LARGER = 1.5 * 2.0**28  # in a float32 sum of float16 products only; then s reaches further below it
NUM_TRIPLES = 12  # places in a sum where its width is asked
NUM_TRIPLES_ALONE = 5  # where each question is a call of its own
NUM_ALIGNMENTS = 5  # extra bits that are tried where no tree tells them; Fasi et al. and FTTN saw 0 to 3

NEAREST, TRUNCATED, ODD = "to nearest even", "truncated", "to odd"
AWAY, UP, DOWN = "to nearest, ties away from zero", "up", "down"
CUT_OFF = "of terms cut off at its last place"
UNKNOWN, NOT_TOLD = "in no known way", "not told"

# In units of the running sum's last place, with M even: beside the ties, what truncation and rounding tell apart.
_FRACTIONS = (0.25, 0.5, 0.75, 1.25, 1.5, 1.75, 2.5)
RULES: dict[str, Callable[[Doubles], Doubles]] = {
    NEAREST: np.rint,
    TRUNCATED: lambda steps: np.trunc(steps),
    AWAY: lambda steps: np.copysign(np.floor(np.abs(steps) + 0.5), steps),
    ODD: lambda steps: np.where(steps == np.rint(steps), steps, 2 * np.floor(steps / 2) + 1),
    UP: np.ceil,
    DOWN: np.floor,
}


@dataclass(frozen=True)
class Width:
    """bits: of the significand of the running sum, over the places that were tried the fewest and the most.

    is_open: it may be more, the dtype cannot ask further.
    narrowest: a place where the fewest are kept; None where all terms are added as one.
    """

    fewest: int
    most: int
    is_open: bool
    narrowest: Triple | None = None


def most_bits(asked: Sum) -> int:
    """How far can be asked: beyond float64's 53 bits; in float16 as far as s is no subnormal output."""
    if asked.dtype.name != "float16":
        return 56
    return 42 if asked.has_factors else 26


def width_of(asked: Sum, tree: Tree, seed: int = 0) -> Width:
    """Of the running sums that are kept between two additions."""
    count = NUM_TRIPLES if asked.num_questions > 1 else NUM_TRIPLES_ALONE
    ordered = ordered_triples(tree, count, seed)
    triples = ordered or [(0, 1, asked.num_terms - 1)]
    bits = kept_bits(asked, triples)
    fewest = min(bits)
    return Width(fewest, max(bits), fewest >= most_bits(asked), triples[bits.index(fewest)] if ordered else None)


def kept_bits(asked: Sum, triples: Sequence[Triple]) -> list[int]:
    """For each (where M is, where s, where -M): the bits of M + s that were kept."""
    shifts = np.arange(1, most_bits(asked))
    far = (shifts > 25) & (asked.dtype.name == "float16")
    large = np.where(far, LARGER, LARGE)
    small = large / 1.5 * 2.0**-shifts
    rows = [_placed(asked, triple, (m, s, -m)) for triple in triples for m, s in zip(large, small, strict=True)]
    kept = asked.values(np.array(rows)).reshape(len(triples), -1) == small
    return [len(shifts) + 1 if row.all() else int(np.argmin(row)) + 1 for row in kept]


def _placed(asked: Sum, where: Sequence[int], values: Sequence[float]) -> Doubles:
    row = np.zeros(asked.num_terms)
    row[list(where)] = values
    return row


def ordered_triples(tree: Tree, count: int, seed: int) -> list[Triple]:
    """(i, j, k) of which i and j are added before k comes: nearest first, then from all over the sum.

    None where all terms are added as one.
    """
    every = list(_chains(tree))
    random = np.random.default_rng(seed)
    chosen = [*every[-1:], *every[:1], *(every[i] for i in random.permutation(len(every))[: count - 2])]
    return list(dict.fromkeys(chosen))


def _chains(tree: Tree) -> Iterator[Triple]:
    """Parents first: k below one child of a node, i and j below two children of another child."""
    for node in nodes(tree):
        for index, child in enumerate(node):
            if isinstance(child, int):
                continue
            last = first_leaf(node[index - 1])
            for left, right in ((child[0], child[-1]), (child[-1], child[0])):
                yield leaves(left)[0], leaves(right)[-1], last


def triple_within(tree: Tree) -> Triple | None:
    """Three terms that one adder adds as one, not with what came before; None where none does."""
    for node in nodes(tree):
        own = [child for child in node if isinstance(child, int)]
        if len(own) >= 3:
            return own[0], own[1], own[2]
    return None


def extra_bits(asked: Sum, tree: Tree, width: int) -> int | None:
    """Bits that an adder of several terms keeps below the running sum's last place, None where there is no such adder.

    All that can be asked, where it keeps them all.
    """
    where = triple_within(tree)
    return None if where is None or next(_chains(tree), None) is None else kept_bits(asked, [where])[0] - width


def rounding_of(asked: Sum, tree: Tree, width: Width, extra: int | None) -> str:
    """How the running sum is rounded to its fewest bits, after each term was cut off `extra` bits below."""
    bits, where = width.fewest, width.narrowest
    if where is None or not 2 <= bits < most_bits(asked):
        return NOT_TOLD
    if extra == 0:  # nothing is left below the last place but where a carry moves it
        return _rounding_of_carry(asked, tree, bits)
    last_place = LARGE / 1.5 * 2.0 ** (1 - bits)
    steps = np.array([sign * fraction for fraction in _FRACTIONS for sign in (1, -1)])
    rows = [_placed(asked, where, (sign * LARGE, step * last_place, -sign * LARGE)) for sign in (1, -1)
            for step in steps]  # fmt: skip
    got = asked.values(np.array(rows)) / last_place
    offset = np.repeat([LARGE, -LARGE], len(steps)) / last_place
    return _rule(got, np.tile(steps, 2), offset, extra)


def _rounding_of_carry(asked: Sum, tree: Tree, width: int) -> str:
    """1.5 and, as one, 0.5 and a few last places make 2 and half as many; their rounding is what is asked."""
    where = next(_carriers(tree), None)
    if where is None:
        return NOT_TOLD
    base = LARGE / 1.5
    last_place = base * 2.0 ** (1 - width)
    steps = np.array([1.0, 3.0, 5.0, 7.0])
    rows = [_placed(asked, where, [sign * value for value in (LARGE, base / 2, step * last_place, -2 * base)])
            for sign in (1, -1) for step in steps]  # fmt: skip
    got = asked.values(np.array(rows)) / (2 * last_place)
    signs = np.repeat([1.0, -1.0], len(steps))
    offset = signs * base / last_place
    return _rule(got, signs * np.tile(steps, 2) / 2, offset, None)


def _carriers(tree: Tree) -> Iterator[tuple[int, int, int, int]]:
    """(i, j, j', k): i in a running sum to which j and j' are added as one, before k comes."""
    for above in nodes(tree):
        for index, node in enumerate(above):
            if isinstance(node, int):
                continue
            own = [child for child in node if isinstance(child, int)]
            inner = [child for child in node if not isinstance(child, int)]
            if len(own) >= 2 and len(inner) == 1:
                yield first_leaf(inner[0]), own[0], own[1], first_leaf(above[index - 1])


def _rule(got: Doubles, steps: Doubles, offset: Doubles, extra: int | None) -> str:
    """The rule by which offset + steps became got + offset; steps are cut off first where no plain rule fits."""
    for name, rule in RULES.items():
        if np.array_equal(got, rule(offset + steps) - offset):
            return name
    for bits in range(NUM_ALIGNMENTS) if extra is None else [extra]:
        cut = np.trunc(steps * 2.0**bits) * 2.0**-bits
        for name, rule in RULES.items():
            if np.array_equal(got, rule(offset + cut) - offset):
                return name if extra is not None else _of_cut_terms(name, bits)
    return UNKNOWN


def _of_cut_terms(name: str, bits: int) -> str:
    """Cut off at the last place itself, terms leave nothing to be rounded."""
    return CUT_OFF if bits == 0 else f"{name} (terms cut off {bits} bit{'s' * (bits > 1)} below)"


def products_are_exact(asked: Sum, input_bits: int) -> bool | None:
    """Whether a product goes into the sum as it is, as with FMA; None where any product of such inputs is exact.

    a * a = 1 + 2^(1-h) + 2^-2h needs 2h + 1 bits, more than the inputs' dtype has; less its rounding, 2^-2h is left.
    Under FMA so it is where the running sum held the rounded product before, so every neighbour is tried.
    """
    bits = asked.format.precision
    if not asked.has_factors or input_bits < bits:
        return None
    half = (bits + 1) // 2
    n = asked.num_terms
    pairs = [(0, j) for j in range(1, n)] + [(j, 0) for j in range(1, n)]
    a, b = np.zeros((len(pairs), n)), np.ones((len(pairs), n))
    for row, (rounded, product) in enumerate(pairs):
        a[row, rounded] = -(1 + 2.0 ** (1 - half))
        a[row, product] = b[row, product] = 1 + 2.0**-half
    return bool(np.any(asked(a, b) == 2.0 ** (-2 * half)))


def block_between_roundings(asked: Sum, tree: Tree, bits: int) -> int | None:
    """How many terms are added before a sum is rounded to `bits`, as a narrow running sum that leaves wide registers.

    M at 0, s at the term that it meets first, -M at k, s too small for `bits`: s is still there where k is of the same
    block.  None where such terms are not the first ones of the sum.
    """
    meeting = [node for node in nodes(tree) if 0 in node]
    first = next(leaf for leaf in leaves(meeting[-1]) if leaf != 0)
    others = [k for k in range(asked.num_terms) if k not in (0, first)]
    small = LARGE / 1.5 * 2.0 ** -(bits + 1)
    rows = np.array([_placed(asked, (0, first, k), (LARGE, small, -LARGE)) for k in others])
    kept = asked.values(rows) == small
    block = {0, first, *(k for k, is_kept in zip(others, kept, strict=True) if is_kept)}
    return len(block) if 2 < len(block) < asked.num_terms and block == set(range(len(block))) else None


def conversion_of(asked: Sum) -> str:
    """How a result is rounded to the output's dtype where the running sum is wider: M + s, s below its last place."""
    precision = asked.format.precision
    last_place = 2.0 ** (1 - precision)
    steps = np.array([sign * fraction for fraction in _FRACTIONS for sign in (1, -1)])
    rows = [_placed(asked, (0, asked.num_terms - 1), (1.5 * sign, step * last_place)) for sign in (1, -1)
            for step in steps]  # fmt: skip
    got = asked.values(np.array(rows)) / last_place
    offset = np.repeat([1.5, -1.5], len(steps)) / last_place
    return _rule(got - offset, np.tile(steps, 2), offset, None)
