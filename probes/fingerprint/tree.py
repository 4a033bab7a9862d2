"""The order in which terms are added, revealed by numerical tests: FPRev.

Xie, Gao, Wang, Xue, "Revealing Floating-Point Accumulation Orders in Software/Hardware Implementations", USENIX ATC
2025 (arXiv 2411.00442).  All terms are a unit but x_i = M and x_j = -M, where M absorbs whatever is added to it.  So
units that meet M before -M does are lost, and n minus the sum is the number of leaves under the lowest common ancestor
of i and j.  One leaf asked against all others gives the way from it to the root, and each group of leaves that hangs
there is a tree of its own.  A node with more than two children is an adder that adds its terms as one, as a tensor
core does.

A tree is a leaf's index, or a tuple of two or more trees, sorted by their smallest leaf.  NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Tree: TypeAlias = "int | tuple[Any, ...]"
Pair: TypeAlias = "tuple[int, int]"
Ask: TypeAlias = Callable[[Sequence[Pair]], "npt.NDArray[np.float64]"]
"""For pairs (i, j): how many units are in the sum where x_i = M and x_j = -M; any numbers where it is no sum."""

NUM_VERIFIED = 48  # pairs that a finished tree has to foretell


class NotATree(Exception):
    """The answers are those of no order of additions: a transformed algorithm, or an M that does not absorb."""


class NothingLost(NotATree):
    """M does not absorb a single unit: the sum is kept to more bits than M is large."""


class OutOfRange(NotATree):
    """Neither M nor units go through the sum unharmed: they overflow, or are flushed to zero."""


class Unstable(Exception):
    """The same question is answered otherwise the next time: the order changes from call to call."""


def reveal(ask: Ask, num_terms: int, seed: int = 0) -> Tree:
    """The tree of a sum of `num_terms` terms.

    Raises NotATree or Unstable where there is none.
    """
    if num_terms == 1:
        return 0
    asked = _Leaves(ask, num_terms)
    try:
        result = _tree_of(list(range(num_terms)), asked)
    except NotATree:
        asked.check_again()
        raise
    _verify(result, asked, seed)
    return result


class _Leaves:
    """Leaves under the lowest common ancestor of two leaves, each pair asked once."""

    def __init__(self, ask: Ask, num_terms: int) -> None:
        self.ask = ask
        self.num_terms = num_terms
        self.known: dict[Pair, int] = {}

    def of(self, leaf: int, others: Sequence[int]) -> list[int]:
        pairs = [(min(leaf, other), max(leaf, other)) for other in others]
        new = [pair for pair in pairs if pair not in self.known]
        if new:
            self.known.update(zip(new, self._answers(new), strict=True))
        return [self.known[pair] for pair in pairs]

    def _answers(self, pairs: Sequence[Pair]) -> list[int]:
        units = self.ask(pairs)
        if not np.all(np.isfinite(units) & (units == np.rint(units)) & (units >= 0) & (units <= self.num_terms - 2)):
            raise NotATree("sums of so many units do not come out as whole numbers of units")
        return [self.num_terms - int(count) for count in units]

    def check_again(self) -> None:
        """Raises Unstable where known pairs are answered otherwise now."""
        pairs = list(self.known)
        if pairs and self._answers(pairs) != [self.known[pair] for pair in pairs]:
            raise Unstable("the order of additions changes from call to call")


def _tree_of(members: Sequence[int], asked: _Leaves) -> Tree:
    """The tree of leaves that have a node of their own, found along the way up from the first of them."""
    first, rest = members[0], members[1:]
    sizes = asked.of(first, rest)
    if len(members) == asked.num_terms > 2 and set(sizes) == {2}:
        raise NothingLost("a large number absorbs nothing")
    result: Tree = first
    num_leaves = 1
    for size in sorted(set(sizes)):
        joining = [other for other, under in zip(rest, sizes, strict=True) if under == size]
        num_leaves += len(joining)
        if size != num_leaves:
            raise NotATree(f"{size} leaves under a node of {num_leaves}")
        result = _node([result, *_children(joining, size, asked)])
    return result


def _children(members: list[int], parent_size: int, asked: _Leaves) -> Iterator[Tree]:
    """The trees among `members` whose parent is the node with `parent_size` leaves."""
    while members:
        first, rest = members[0], members[1:]
        sizes = asked.of(first, rest)
        if any(size > parent_size for size in sizes):
            raise NotATree("a node has more leaves than the one above it")
        inside = [other for other, size in zip(rest, sizes, strict=True) if size < parent_size]
        yield _tree_of([first, *inside], asked)
        members = [other for other in rest if other not in set(inside)]


def _node(children: Sequence[Tree]) -> Tree:
    return tuple(sorted(children, key=first_leaf))


def _verify(found: Tree, asked: _Leaves, seed: int) -> None:
    random = np.random.default_rng(seed)
    n = asked.num_terms
    every = [(i, j) for i in range(n) for j in range(i + 1, n)] if n <= 64 else []
    if every:
        chosen = [every[i] for i in random.permutation(len(every))[:NUM_VERIFIED]]
    else:
        chosen = [(int(i), int(j)) for i, j in np.sort(random.integers(0, n, (NUM_VERIFIED, 2))) if i != j]
    sizes = _common_sizes(found)
    foretold = [sizes(i, j) for i, j in chosen]
    for _ in range(2):
        answers = asked._answers(chosen)
        if answers != foretold:
            asked.check_again()
            if asked._answers(chosen) != answers:
                raise Unstable("the order of additions changes from call to call")
            raise NotATree("the tree found does not foretell other sums")


def _common_sizes(tree: Tree) -> Callable[[int, int], int]:
    """Of a tree: leaves under the lowest common ancestor of two leaves."""
    ways: dict[int, list[tuple[int, int]]] = {}  # (identity of the node, its leaves), from the root down

    def walk(node: Tree, above: list[tuple[int, int]]) -> None:
        if isinstance(node, int):
            ways[node] = above
            return
        here = [*above, (id(node), num_leaves(node))]
        for child in node:
            walk(child, here)

    walk(tree, [])

    def size(i: int, j: int) -> int:
        common = [a[1] for a, b in zip(ways[i], ways[j], strict=False) if a == b]
        return common[-1]

    return size


def sequence(num_terms: int) -> Tree:
    """Terms added one after another."""
    tree: Tree = 0
    for term in range(1, num_terms):
        tree = (tree, term)
    return tree


def leaves(tree: Tree) -> list[int]:
    """From left to right."""
    if isinstance(tree, int):
        return [tree]
    return [leaf for child in tree for leaf in leaves(child)]


def num_leaves(tree: Tree) -> int:
    return 1 if isinstance(tree, int) else sum(map(num_leaves, tree))


def first_leaf(tree: Tree) -> int:
    return tree if isinstance(tree, int) else min(map(first_leaf, tree))


def depth(tree: Tree) -> int:
    """Additions from the deepest leaf to the root."""
    return 0 if isinstance(tree, int) else 1 + max(map(depth, tree))


def widest(tree: Tree) -> int:
    """The most terms that one node adds."""
    return 1 if isinstance(tree, int) else max(len(tree), *map(widest, tree))


def nodes(tree: Tree) -> Iterator[tuple[Any, ...]]:
    """Every node that is no leaf, parents first."""
    if not isinstance(tree, int):
        yield tree
        for child in tree:
            yield from nodes(child)
