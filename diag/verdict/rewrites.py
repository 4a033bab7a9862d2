"""What TensorFlow made of traced ops before it ran them, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

FUSED = "fused"  # several ops became one
REGROUPED = "regrouped"  # several ops became others


@dataclass(frozen=True)
class Part:
    """An op of the traced step, by name, with its location."""

    name: str
    op: str
    layer: str | None
    variable: str | None
    phase: str
    index: int | None


@dataclass(frozen=True)
class Rewrite:
    """One change: `parts` are the traced ops, `op` and `node` what is executed in their place.

    `detail` says what the op's type does not: what is fused in, as TensorFlow's own attribute has it; from which
    layout or dtype to which; the device.
    """

    kind: str
    op: str
    node: str
    parts: tuple[Part, ...]
    detail: str = ""

    @property
    def layers(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(part.layer for part in self.parts if part.layer))

    @property
    def identity(self) -> tuple[str, str, frozenset[str], str]:
        """What makes it the same change in another compilation of the same step."""
        return (self.kind, self.op, frozenset(part.name for part in self.parts), self.detail)


@dataclass(frozen=True)
class Rewrites:
    """What became of the ops of a few layers, and in figures of the whole step.

    layers: None where it is of ops of no layer.  absent: reason -> ops of these layers that are not executed.  counts:
    kind or reason -> how often in the whole step.  note: why nothing is known, where nothing is.
    """

    place: str
    layers: tuple[str | None, ...]
    changes: tuple[Rewrite, ...] = ()
    absent: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True)
class OptimizedStep:
    """A step, or a layer, as it is executed at a place.

    `absent` are ops that are not executed at all, by reason (one of ABSENT).  `is_known` is False where
    TensorFlow does not say what it executes, as for XLA.
    """

    place: str
    watched: tuple[str, ...]
    changes: tuple[Rewrite, ...]
    absent: Mapping[str, tuple[Part, ...]]
    num_traced: int
    num_executed: int
    is_known: bool = True
    note: str = ""

    @property
    def fusions(self) -> tuple[Rewrite, ...]:
        return tuple(change for change in self.changes if change.kind in (FUSED, REGROUPED))


@dataclass(frozen=True)
class RewriteDifference:
    """What differs between two compilations of one step; `lost` are changes of the first alone."""

    lost: tuple[Rewrite, ...]
    gained: tuple[Rewrite, ...]

    @property
    def fusions_lost(self) -> tuple[Rewrite, ...]:
        return tuple(change for change in self.lost if change.kind in (FUSED, REGROUPED))

    @property
    def fusions_gained(self) -> tuple[Rewrite, ...]:
        return tuple(change for change in self.gained if change.kind in (FUSED, REGROUPED))
