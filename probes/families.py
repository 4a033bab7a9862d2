"""The families of probes, in the order in which a card shows them; each makes its list of probes from a choice."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from probes import accuracy, composites, exact, fingerprint, optimizers, random_streams
from probes.plan import Choice, Probe

FAMILIES: dict[str, Callable[[Choice], Iterable[Probe]]] = {
    "fingerprint": fingerprint.probes,
    "exact": exact.probes,
    "accuracy": accuracy.probes,
    "composites": composites.probes,
    "optimizers": optimizers.probes,
    "random": random_streams.probes,
}
