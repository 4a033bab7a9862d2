"""The catalogue: every name makes a place of its own."""

from __future__ import annotations

import pytest

from diag.engine.faults.catalogue import catalogue, simulation_of
from diag.errors import UserError
from diag.machine.places import parse_place

REQUIRED = {"metal-fused-dense", "tf32", "one-bit", "skipped-update", "rng-frozen"}


def test_what_the_design_requires_is_there():
    assert set(catalogue()) >= REQUIRED


@pytest.mark.parametrize("name", catalogue())
def test_a_name_makes_a_fresh_simulation_each_time(name):
    first, second = (simulation_of(parse_place(f"sim:{name}")) for _ in range(2))
    assert first is not second
    assert first.memory is not second.memory
    assert first.name == name
    assert (first.fault is None) != (first.rewriter is None)


def test_an_unknown_name_is_refused_with_those_that_exist():
    with pytest.raises(UserError, match=r"sim:nothing is unknown; expected one of .*tf32"):
        simulation_of(parse_place("sim:nothing"))


def test_the_catalogue_is_not_to_be_changed_by_its_reader():
    catalogue().clear()
    assert catalogue()
