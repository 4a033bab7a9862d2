"""The plot of hand-made curves, and the words beside it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from diag.numerics.adam import AdamFigures
from diag.report.curves import HEIGHT, plot
from diag.report.growth import growth_facts, growth_legend, growth_sentence
from diag.report.updates import error_line, sign_lines
from diag.verdict.chaos import Curve, Trajectories


def curve(name, distances, start=1e-7, disagreement=()):
    return Curve(name, start, list(distances), [d / 10 for d in distances], list(disagreement))


def trajectories(candidate, twins=((1e-7, 1e-7), (2e-7, 2e-7), (4e-7, 4e-7)), envelope=(1e-6, 1e-6), **changes):
    named = tuple(curve(f"twin {number}", distances) for number, distances in enumerate(twins, 1))
    return replace(Trajectories(curve("candidate", candidate), named, tuple(envelope)), **changes)


def test_plot_of_three_steps():
    """Decades 1e-8 to 1e0 over twelve rows: a decade is 11/8 of a row."""
    seen = trajectories((1e-8, 1e-4, 1.0), twins=((1e-8, 1e-6, 1e-6), (1e-8, 1e-8, 1e-4)), envelope=(1e-2,) * 3)
    assert [line.rstrip() for line in plot(seen, 16)] == [
        "  1e0 |      o",
        " 1e-1 |",
        "      |",
        " 1e-2 |-  -  -",
        " 1e-3 |",
        " 1e-4 |   o  :",
        "      |      :",
        " 1e-5 |      :",
        " 1e-6 |   :  :",
        "      |   :",
        " 1e-7 |   :",
        " 1e-8 |o  :",
        "      +---------",
        "       0 step  2",
    ]


@pytest.mark.parametrize("num_steps", [1, 2, 7, 60, 73, 74, 1000])
@pytest.mark.parametrize("width", [40, 80, 120])
def test_plot_fits_and_shows_the_last_step(num_steps, width):
    up = [1e-8 * 1.01**step for step in range(num_steps)]
    seen = trajectories(up, (up, up, up), [10 * d for d in up], first_step=3)
    lines = plot(seen, width)
    assert len(lines) == HEIGHT + 2
    assert max(map(len, lines)) <= width
    assert lines[-1].split()[0] == "3" and lines[-1].split()[-1] == str(num_steps + 2)
    assert sum(line.count("o") for line in lines[:-1]) == len(lines[-2].strip(" +")) // max(
        1, (width - 7) // min(num_steps, width - 7)
    )


def test_a_column_shows_the_largest_of_its_steps():
    """One step of 1,000 that sticks out is not lost."""
    flat = [1e-8] * 1000
    peak = [*flat[:500], 1e-2, *flat[501:]]
    assert plot(trajectories(peak, (flat, flat), flat), 80)[0].count("o") == 1


def test_what_cannot_be_drawn():
    assert plot(trajectories((0.0, 0.0), ((0.0, 0.0),), (0.0, 0.0)), 80) == []
    lines = plot(trajectories((1e-8, math.inf, math.nan), ((1e-8, 1e-8, math.nan),), (1e-7, 1e-7, 1e-7)), 80)
    assert lines[0].count("^") == 1
    assert sum(line.count("o") for line in lines) == 1


# -- words -----------------------------------------------------------------------------------------


def test_like_chaos():
    seen = trajectories((1e-8, 3e-7))
    assert growth_sentence(seen) == (
        "Grows like chaos: over 2 steps the candidate stays as near the reference as one rounding explains (3 "
        "copies of the reference, each changed by one rounding)."
    )
    assert dict(growth_facts(seen)) == {
        "weights apart": "candidate 3e-7, copies 1e-7 to 4e-7", "losses apart": "candidate 3e-8, copies 1e-8 to 4e-8",
    }  # fmt: skip


def test_outside_and_explained():
    seen = trajectories((4e-6, 1e-4), is_explained=True)
    assert growth_sentence(seen) == (
        "The candidate is further away than one rounding explains (3 copies of the reference, each changed by one "
        "rounding) at step 0 by a factor of 4 (at most 100, at step 1): a "
        "divergence, not chaos."
    )


def test_outside_and_not_explained_is_inconclusive():
    said = growth_sentence(trajectories((1e-8, 4e-6), first_step=10, looked_closer=11))
    start = "Inconclusive: the candidate is further away than one rounding explains (3 copies of the reference, each "
    start += "changed by one rounding) at step 11 by a factor of 4, but no unit"
    assert said.startswith(start)
    assert "--twins 9" in said


@pytest.mark.parametrize(
    "distances, end",
    [((math.inf, math.inf), "at step 0, where its weights are not finite: a divergence, not chaos."),
     ((2e-6, math.inf), "at step 0 by a factor of 2 (its weights are not finite at step 1): a divergence, not chaos.")],
)  # fmt: skip
def test_weights_that_are_not_finite(distances, end):
    seen = trajectories(distances, is_explained=True)
    assert growth_sentence(seen).endswith(end)
    assert growth_legend(seen).endswith("^ not finite")


def test_nothing_to_tell():
    assert growth_sentence(trajectories((0.0, 0.0))).startswith("No growth: over 2 steps")
    assert "not finite" in growth_sentence(trajectories((math.nan, math.nan)))
    unmoved = trajectories((1e-3, 1e-3), ((0.0, 0.0),), (0.0, 0.0))
    assert "no copy ever moved" in growth_sentence(unmoved)


def test_two_twins_are_said_to_be_few():
    assert "--twins 3" in growth_sentence(trajectories((1e-8, 1e-8), ((1e-7, 1e-7), (1e-7, 1e-7))))


def test_disagreement_is_told_where_there_are_classes():
    seen = replace(trajectories((0.0, 0.0)), candidate=curve("candidate", (0.0, 0.0), disagreement=(0.0, 0.25)))
    seen = replace(seen, twins=(curve("twin 1", (1e-7,), disagreement=(0.0, 0.0)),))
    assert dict(growth_facts(seen))["other class"] == "candidate 12.5%, copies 0% of the samples of all steps"


def figures(variable, other_sign=0.0, of_noise=0.0, from_rest=True, update=0.1, p99=1.0):
    return AdamFigures(variable, 100, 1e-9, other_sign, of_noise, (0.1, p99), 0.2, 0.3, update, (0,), from_rest)


def test_signs():
    none = "No update has another sign in the candidate than in the reference."
    assert sign_lines([figures("dense/kernel")]) == [none]
    found = sign_lines([figures("a"), figures("b", 0.12, 0.119), figures("c", 0.5, 0.5, from_rest=False)])
    assert found == [
        "50% of the updates of c have the other sign; in 50% the momentum is below what the gradient's rounding error "
        "moves it by",
        "12% of the updates of b have the other sign; in 11.9% the gradient is below its rounding error, in 0.1% it is "
        "not",
    ]


def test_many_variables_are_counted():
    found = sign_lines([figures(f"v{number}", 0.1, 0.1) for number in range(7)])
    assert len(found) == 5 and "3 more variables" in found[-1]


def test_errors_name_their_variable():
    said = error_line([figures("a", update=0.5), figures("b", p99=40.0)])
    assert "update 0.5 (a)" in said and "at most 40 times as large (b)" in said
