"""The families of probes, in the order in which a card shows them; each makes its list of probes from a choice."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from probes.plan import Choice, Probe

MODULES = {
    "fingerprint": "probes.fingerprint",
    "exact": "probes.exact",
    "accuracy": "probes.accuracy",
    "composites": "probes.composites",
    "optimizers": "probes.optimizers",
    "random": "probes.random_streams",
}


def probes_of(family: str, choice: Choice) -> Iterator[Probe]:
    """Its probes, whatever ops and dtypes the choice names; the module is imported only where it is asked for."""
    yield from import_module(MODULES[family]).probes(choice)
