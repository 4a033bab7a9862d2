"""The families of probes, in the order in which a card shows them; each makes its list of probes from a choice."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from probes.frame.plan import Choice, Probe

MODULES = {
    "fingerprint": "probes.fingerprint",
    "exact": "probes.exact",
    "accuracy": "probes.accuracy",
    "composites": "probes.composites",
    "optimizers": "probes.optimizers",
    "random": "probes.randomness",
}


def probes_of(family: str, choice: Choice) -> Iterator[Probe]:
    """Its probes, whatever ops and dtypes the choice names; the module is imported only where it is asked for."""
    yield from import_module(MODULES[family]).probes(choice)


def planned(choice: Choice) -> list[Probe]:
    """Every probe that a choice asks for, family by family."""
    pass

    families = [name for name in MODULES if not choice.families or name in choice.families]
    return [probe for family in families for probe in probes_of(family, choice) if choice.wants(probe)]
