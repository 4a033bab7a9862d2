"""A tree of additions in words, as nested parentheses, and drawn."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from probes.fingerprint.tree import Tree, depth, first_leaf, leaves, num_leaves, widest

SEQUENTIAL = "sequential"
PAIRWISE = "pairwise"
FOLDED = "pairwise (second half onto first)"


def in_words(tree: Tree) -> str:
    """The pattern of a tree: "sequential", "pairwise", "8 running sums added pairwise", "blocks of 8 added as one"."""
    if num_leaves(tree) == 1:
        return "one term"
    return _whole(tree) or _of_parts(tree) or _unequal_blocks(tree) or _unlike(tree)


def nested(tree: Tree) -> str:
    """((0 1) 2): terms by their index, each pair of parentheses one addition."""
    return str(tree) if isinstance(tree, int) else f"({' '.join(map(nested, tree))})"


def drawn(tree: Tree) -> str:
    """A line for each addition and each term, the last addition first."""
    return "\n".join(_lines(tree))


def _lines(tree: Tree) -> Iterator[str]:
    if isinstance(tree, int):
        yield f"x{tree}"
        return
    yield "+"
    for child in tree:
        last = child is tree[-1]
        first, *others = _lines(child)
        yield f"{'└' if last else '├'}─{first}"
        yield from (f"{' ' if last else '│'} {line}" for line in others)


def _whole(tree: Tree) -> str:
    """A name for all of a tree, "" where it has none."""
    if num_leaves(tree) <= 3 and widest(tree) == 2:
        return _chain(tree)
    if widest(tree) == num_leaves(tree):
        return f"all {num_leaves(tree)} added as one"
    if _is_halved(tree, folded=False):
        return PAIRWISE
    if _is_halved(tree, folded=True):
        return FOLDED
    return _chain(tree)


def _is_halved(tree: Tree, folded: bool) -> bool:
    """Whether each addition is of two halves of its terms: the first and the second, or (folded) odd and even ones."""
    if isinstance(tree, int):
        return True
    if len(tree) != 2:
        return False
    left, right = (sorted(leaves(child)) for child in tree)
    both = sorted([*left, *right])
    middle = (len(both) + 1) // 2
    expected = (both[::2], both[1::2]) if folded else (both[:middle], both[middle:])
    unordered = {tuple(left), tuple(right)} == {tuple(expected[0]), tuple(expected[1])}
    return unordered and all(_is_halved(child, folded) for child in tree)


def spine(tree: Tree) -> list[list[int]] | None:
    """The terms that each addition brings to one running sum, the first addition first; None where sums meet."""
    if isinstance(tree, int):
        return [[tree]]
    inner = [child for child in tree if not isinstance(child, int)]
    own = [child for child in tree if isinstance(child, int)]
    if len(inner) > 1 or (inner and not own):
        return None
    below = spine(inner[0]) if inner else []
    return None if below is None else [*below, own]


def _chain(tree: Tree) -> str:
    steps = spine(tree)
    if steps is None:
        return ""
    order = [leaf for step in steps for leaf in sorted(step)]
    widths = [len(step) for step in steps]
    width = max(widths)
    is_plain = all(size == 1 for size in widths[1:]) and widths[0] <= 2
    if is_plain:
        return SEQUENTIAL if order == sorted(order) else _other_order(steps)
    blocks = f"blocks of {width} added as one"
    if len(set(widths[1:-1])) > 1:
        blocks = f"blocks of up to {width} added as one"
    return blocks if order == sorted(order) else f"{blocks} in another order"


def _other_order(steps: Sequence[list[int]]) -> str:
    after_first = [leaf for step in steps[1:] for leaf in step]
    if after_first == sorted(after_first, reverse=True) and min(steps[0]) > max(after_first):
        return "sequential from the last term to the first"
    swapped = [0, 1, *(leaf + 1 if leaf % 2 == 0 else leaf - 1 for leaf in range(2, len(after_first) + 2))]
    if [leaf for step in steps for leaf in step] in (swapped, swapped[: len(after_first) + 1]):
        return "sequential with each pair swapped"
    return "sequential in another order"


def _of_parts(tree: Tree) -> str:
    """Sums of a pattern of their own which are then added up, "" where they are not alike."""
    candidates = [made for parts in _levels(tree) if (made := _parts_in_words(tree, parts))]
    return min(candidates, key=lambda rated: rated[0])[1] if candidates else ""


def _parts_in_words(tree: Tree, parts: Sequence[Tree]) -> tuple[int, str] | None:
    """How odd a description of a tree by these parts is, 0 the plainest, and the description itself."""
    members = [sorted(leaves(part)) for part in parts]
    if len({len(part) for part in members}) != 1 or len(members[0]) < 2:
        return None
    kinds = {_whole(each) or _of_parts(each) for each in map(_renumbered, parts)}
    skeleton = _skeleton(tree, {first_leaf(part): index for index, part in enumerate(parts)}, parts)
    outer = _whole(skeleton) or _of_parts(skeleton)
    if len(kinds) != 1 or not outer or "" in kinds:
        return None
    kind = kinds.pop()
    steps = {b - a for part in members for a, b in itertools.pairwise(part)}
    added = "added" if len(parts) == 2 else f"added {_after(outer)}"
    if kind == SEQUENTIAL and steps == {len(parts)}:
        return 0, f"{len(parts)} running sums {added}"
    if steps == {1}:
        simple = spine(parts[0]) is not None
        return 1 if simple else 2, f"{len(parts)} blocks of {len(members[0])} terms (each {kind}) {added}"
    of_every = f" of every {steps.pop()}th term" if len(steps) == 1 else ""
    return 3, f"{len(parts)} sums{of_every} (each {kind}) {added}"


def _unequal_blocks(tree: Tree) -> str:
    """A running sum of blocks of consecutive terms, "" where it is none."""
    sizes = []
    rest = tree
    while _whole(rest) != SEQUENTIAL:
        if isinstance(rest, int) or len(rest) != 2 or max(leaves(rest[0])) > first_leaf(rest[1]):
            return ""
        rest, block = rest
        if num_leaves(block) > 1 and _whole(_renumbered(block)) != SEQUENTIAL:
            return ""
        sizes.append(num_leaves(block))
    sizes.append(num_leaves(rest))
    return f"blocks of {min(sizes)} to {max(sizes)} terms (each sequential) added one after another"


def _after(outer: str) -> str:
    if outer == SEQUENTIAL:
        return "one after another"
    return outer if outer in (PAIRWISE, FOLDED) else f"as {outer}"


def _levels(tree: Tree) -> Iterator[list[Tree]]:
    """The children of the root, and theirs, and so on: each a way to cut the tree into parts."""
    level: list[Tree] = [tree]
    while True:
        largest = max(map(num_leaves, level))
        if largest <= 2:
            return
        opened: list[Tree] = []
        for part in level:
            opened.extend(part if not isinstance(part, int) and num_leaves(part) == largest else [part])
        level = sorted(opened, key=first_leaf)
        yield level


def _skeleton(tree: Tree, numbers: dict[int, int], parts: Sequence[Tree]) -> Tree:
    if any(tree is part for part in parts):
        return numbers[first_leaf(tree)]
    assert not isinstance(tree, int)
    return tuple(_skeleton(child, numbers, parts) for child in tree)


def _renumbered(tree: Tree) -> Tree:
    """The same tree of leaves 0, 1, 2... in their order."""
    numbers = {leaf: index for index, leaf in enumerate(sorted(leaves(tree)))}

    def again(node: Tree) -> Tree:
        return numbers[node] if isinstance(node, int) else tuple(map(again, node))

    return again(tree)


def _unlike(tree: Tree) -> str:
    fused = f" with up to {widest(tree)} terms added as one" if widest(tree) > 2 else ""
    return f"a tree of depth {depth(tree)} of no common pattern{fused}"
