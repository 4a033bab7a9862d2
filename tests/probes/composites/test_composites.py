"""Composites at a place: what rounding explains passes, faults inside fail, NaN of the formula's own is a note."""

from __future__ import annotations

import io

import numpy as np
import pytest

from diag.machine.places import parse_place
from probes import composites
from probes.composites.compositions import compositions
from probes.composites.rounding_noise import excess_of
from probes.frame.device import DeviceUnderTest
from probes.frame.plan import Choice, carried_out

U = 2.0**-24


def read(place: str, op: str, dtype: str = "float32", case: str = ""):
    device = DeviceUnderTest(parse_place(place))
    probes = composites.probes(Choice())
    (probe,) = [each for each in probes if (each.op, each.dtype, each.case) == (op, dtype, case)]
    (found,) = carried_out([probe], device, lambda _: None)
    return found


@pytest.mark.parametrize(
    ("place", "op", "status"),
    [
        ("CPU:0/eager", "keras.activations.softplus", "pass"),
        ("CPU:0/xla", "keras.activations.silu", "pass"),
        ("CPU:0/graph", "keras.layers.LayerNormalization", "pass"),
        ("CPU:0/eager", "keras.losses.CategoricalCrossentropy", "pass"),
        ("CPU:0/eager", "keras.layers.BatchNormalization", "pass"),
        ("sim:exp-log-approx/eager", "keras.activations.softplus", "fail"),
        ("sim:exp-log-approx/graph", "keras.losses.CategoricalCrossentropy", "fail"),
        ("sim:rsqrt-12bit/eager", "keras.layers.LayerNormalization", "fail"),
        ("sim:rsqrt-12bit/graph", "keras.layers.UnitNormalization", "fail"),
    ],
)
def test_faults_inside_are_seen_and_a_sound_place_is_not_accused(place, op, status):
    found = read(place, op)
    assert found.status == status, found.says
    assert (found.figures["excess"] > 1) == (status == "fail")


def test_nan_that_the_formula_gives_on_the_cpu_too_is_a_note():
    found = read("CPU:0/graph", "keras.losses.CategoricalFocalCrossentropy", "float16")
    assert found.status in ("pass", "note")
    assert read("CPU:0/eager", "keras.activations.sparsemax", "float16").status == "unsupported"


def test_forward_and_gradient_are_both_computed_and_named():
    found = read("CPU:0/eager", "keras.layers.BatchNormalization")
    names = {name.removeprefix("max_ulp_") for name in found.figures if name.startswith("max_ulp_")}
    assert names == {"y", "mean", "variance", "gradient", "gradient_gamma", "gradient_beta"}


@pytest.mark.parametrize("op", ["keras.activations.softplus", "keras.losses.CategoricalCrossentropy"])
def test_a_program_shows_the_worst_row(op, capsys, monkeypatch):
    """The fault is simulated, so the program finds the CPU right: what it expects is what float64 has."""
    found = read("sim:exp-log-approx/eager", op)
    assert len(found.reproducer.splitlines()) <= 20
    monkeypatch.setattr("os.popen", lambda command: io.StringIO("a chip"))
    exec(compile(found.reproducer, "reproducer", "exec"), {})
    assert "CPU:0 is right" in capsys.readouterr().out


def noisy(truth, size, seed=0):
    generator = np.random.default_rng(seed)
    return [truth * (1 + size * generator.uniform(-1, 1, truth.shape)) for _ in range(8)]


@pytest.mark.parametrize(("factor", "explained"), [(0.5, True), (8, True), (64, False), (2000, False)])
def test_sixteen_roundings_and_two_ulp_are_explained(factor, explained):
    truth = np.linspace(1.0, 1.9, 256)
    y = (truth * (1 + factor * U)).astype(np.float32)
    found = excess_of(y, truth, noisy(truth, U), U)
    assert (found.excess <= 1) == explained


def test_a_small_element_is_held_to_its_own_size_unless_all_of_its_row_enters_it():
    truth = np.array([[1.0, 2.0**-20]] * 64)
    y = truth.astype(np.float32)
    y[7, 1] += 2.0**-24
    assert excess_of(y, truth, noisy(truth, U), U).excess > 100
    assert excess_of(y, truth, noisy(truth, U), U, mixes=True).excess < 1
    assert excess_of(y, truth, noisy(truth, U), U, terms=1.0).excess < 1


def test_not_finite_for_a_number_is_beyond_everything_and_the_same_overflow_is_none():
    truth = np.array([1.0, 1e39, np.nan])
    samples = noisy(truth, U)
    assert excess_of(np.array([1.0, np.inf, np.nan], np.float32), truth, samples, U).excess == 0
    assert excess_of(np.array([np.nan, np.inf, np.nan], np.float32), truth, samples, U).excess == np.inf
    assert excess_of(np.array([1.0, np.inf, 0.0], np.float32), truth, samples, U).excess == np.inf


def test_every_activation_and_loss_of_keras_is_among_them():
    import keras

    names = {each.name for each in compositions()}
    aliases = {"deserialize", "get", "serialize", "swish", "hard_swish", "threshold"}  # threshold takes two numbers
    activations = {n for n in dir(keras.activations) if n.islower() and not n.startswith("_")} - aliases
    assert activations <= {name.removeprefix("keras.activations.") for name in names}
    losses = {n for n in dir(keras.losses) if n[0].isupper()} - {"Loss", "CTC"}  # CTC takes sequences of labels
    assert losses <= {name.removeprefix("keras.losses.") for name in names}


def test_probes_have_names_of_their_own():
    names = [(p.op, p.dtype, p.case) for p in composites.probes(Choice())]
    assert len(set(names)) == len(names) > 150
    assert {p.dtype for p in composites.probes(Choice(quick=True))} == {"float32"}
