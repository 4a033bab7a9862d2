"""What TensorFlow made of traced ops before it ran them, as plain records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Part:
    """An op of the traced step, by name, with its site."""

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

    absent: reason -> ops of these layers that are not executed.  counts: kind or reason -> how often in the whole
    step.  note: why nothing is known, where nothing is.
    """

    place: str
    layers: tuple[str, ...]
    changes: tuple[Rewrite, ...] = ()
    absent: Mapping[str, tuple[Part, ...]] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
