"""KIND/NAME[@STEPS[:LANE]] means the same everywhere."""

from __future__ import annotations

import pytest

from diag.common.wording import ranges_of, shortened
from diag.errors import UserError
from traces.inspector.address import StepSet, parse_address, parse_lanes

LANES = ("reference", "candidate")


@pytest.mark.parametrize(
    ("text", "pattern", "steps", "lane"),
    [
        ("activations/dense", "activations/dense", None, None),
        ("activations/dense@3", "activations/dense", "3", None),
        ("activations/dense:1@0,3-5", "activations/dense:1", "0,3-5", None),
        ("gradients/*@*:candidate", "gradients/*", "*", "candidate"),
        ("dense@:reference", "dense", None, "reference"),
        ("dense@last", "dense", "last", None),
        ("@last:candidate", "*", "last", "candidate"),
        ("my@layer", "my@layer", None, None),  # a name's own "@"
        ("my@layer@7", "my@layer", "7", None),
        ("dense@", "dense@", None, None),
    ],
)
def test_an_address_is_split_at_its_last_at_sign(text, pattern, steps, lane) -> None:
    found = parse_address(text, LANES)
    assert (found.pattern, found.steps and found.steps.text, found.lane) == (pattern, steps, lane)


def test_a_lane_must_be_one_of_the_trace() -> None:
    with pytest.raises(UserError, match=r"'dense@3:twin' names no lane.*reference, candidate"):
        parse_address("dense@3:twin", LANES)
    with pytest.raises(UserError, match="'reference,twin' are not known"):
        parse_lanes("reference,twin", LANES)
    assert parse_lanes("candidate, reference", LANES) == ("candidate", "reference")


@pytest.mark.parametrize(
    ("text", "chosen"),
    [("3", [3]), ("0,4-9", [0, 4, 7]), ("*", [0, 3, 4, 7]), ("last", [7]), ("7,0", [0, 7]), ("last, 3", [3, 7])],
)
def test_steps_are_chosen_in_the_order_they_ran(text: str, chosen: list[int]) -> None:
    assert StepSet(text).select([0, 3, 4, 7, 7]) == chosen


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("5", "no step 5; the trace holds steps 0, 3-4, 7"), ("8-9", "No step of '8-9'"), ("5-6", "No step of '5-6'")],
)
def test_steps_that_are_not_there_are_refused(text: str, complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        StepSet(text).select([0, 3, 4, 7])


@pytest.mark.parametrize("text", ["three", "1-", "-1", "1..3", "", "1,,2"])
def test_steps_that_do_not_read_are_refused(text: str) -> None:
    with pytest.raises(UserError, match="cannot be read; expected such as"):
        StepSet(text)


def test_globs_cross_slashes_and_brackets_may_be_in_a_name() -> None:
    assert parse_address("gradients/*kernel", LANES).matches("gradients/block/dense/kernel")
    assert not parse_address("gradients/dense", LANES).matches("gradients/dense/kernel")
    assert parse_address("layer[1]", LANES).matches("layer[1]")


def test_runs_of_steps_are_joined() -> None:
    assert ranges_of([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert ranges_of([]) == ""
    assert ranges_of(range(0, 3000, 3), most=3) == "0, 3, 6, ... (1,000)"
    assert ranges_of([0, 1, 2, 5], most=2) == "0-2, 5"


def test_a_long_name_keeps_its_ends() -> None:
    assert shortened("block_19/conv2d_194/kernel", 15) == "block_...kernel"
    assert shortened("dense", 5) == "dense"
