"""The candidate's whole step against the reference's: every tensor at a glance, and in full what is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np

from diag.numerics.figures import PairStatistics
from diag.numerics.glances import Glance, glance
from diag.numerics.statistics import compare

Key = tuple[str, str]
"""(kind, name): "activations" of a layer, "gradients" or the kind of a variable, "loss"."""


class Propagated(Mapping[Key, PairStatistics]):
    """Statistics by (kind, name), each taken when it is first asked for; most steps ask for none."""

    def __init__(self, pairs: Mapping[Key, tuple[np.ndarray, np.ndarray]]) -> None:
        """pairs: the reference's array and the candidate's."""
        self._pairs = pairs
        self._known: dict[Key, PairStatistics] = {}

    @cached_property
    def glances(self) -> dict[Key, Glance]:
        """Of every tensor."""
        return {key: glance(*pair) for key, pair in self._pairs.items()}

    @property
    def any_differs(self) -> bool:
        """Whether any number of any tensor does."""
        return any(each.num_unequal for each in self.glances.values())

    def __getitem__(self, key: Key) -> PairStatistics:
        if key not in self._known:
            self._known[key] = compare(*self._pairs[key])
        return self._known[key]

    def __contains__(self, key: object) -> bool:
        return key in self._pairs  # where a mapping would take the statistics

    def __iter__(self) -> Iterator[Key]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)
