"""What --dump and --dump-steps keep, against tables written by hand."""

from __future__ import annotations

import pytest

from diag.engine.recordings.dump_policy import DumpPolicy, parse_dump_policy
from diag.errors import UserError

# of steps 0 to 5, where 0 is the first and 2 and 4 are flagged
KEPT = {
    ("auto", None): "0 1 2 3 4 5",
    ("all", None): "0 1 2 3 4 5",
    ("flagged", None): "0 2 4",
    ("none", None): "",
    ("conv*", None): "0 1 2 3 4 5",
    ("auto", "1,4"): "1 4",
    ("all", "3-5"): "3 4 5",
    ("all", " 0-5:2 , 3"): "0 2 3 4",
    ("flagged", "1"): "1",
    ("conv*,dense", "5-9"): "5",
}


@pytest.mark.parametrize(("given", "kept"), KEPT.items())
def test_steps_are_kept_as_asked(given: tuple[str, str | None], kept: str) -> None:
    dump_policy = parse_dump_policy(*given)
    found = [step for step in range(6) if dump_policy.wants_step(step, step in (2, 4), step == 0)]
    assert found == [int(step) for step in kept.split()]


@pytest.mark.parametrize(
    ("dump", "layer", "name", "wanted"),
    [
        ("all", "conv", "conv", True),
        ("conv*", "conv_1", "conv_1/kernel", True),
        ("conv", "conv_1", "conv_1/kernel", False),
        ("conv_1/kernel", "conv_1", "conv_1/kernel", True),
        ("conv_1/kernel", "conv_1", "conv_1/bias", False),
        ("a, b", "b", "b", True),
        ("CONV", "conv", "conv", False),
        ("block?", None, "block1", True),
    ],
)
def test_a_glob_names_a_layer_or_a_variable(dump: str, layer: str | None, name: str, wanted: bool) -> None:
    assert parse_dump_policy(dump, None).wants(layer, name) is wanted


def test_how_many_steps_are_kept_for_sure() -> None:
    assert parse_dump_policy("flagged", None).count(first=7, steps=10) == 1
    assert parse_dump_policy("all", "8-11:3,100").count(first=7, steps=10) == 2  # 8 and 11
    assert DumpPolicy().count(first=7, steps=10) == 10


@pytest.mark.parametrize(
    ("dump", "steps", "words"),
    [
        ("", None, ["--dump ''", "auto, all, flagged, none"]),
        ("conv,", None, ["--dump 'conv,'", "globs"]),
        ("conv,all", None, ["all stands alone"]),
        ("none", "1", ["--dump none with --dump-steps 1", "leave one of them out"]),
        *(("all", steps, ["--dump-steps", "0,5,10-20"]) for steps in ("", "x", "1-", "-1", "1.5", "1:2", "1,,2")),
        *(("all", steps, ["FIRST-LAST[:STRIDE]"]) for steps in ("5-4", "1-9:0")),
    ],
)
def test_nonsense_is_refused_in_one_line(dump: str, steps: str | None, words: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        parse_dump_policy(dump, steps)
    assert "\n" not in str(refused.value)
    assert all(word in str(refused.value) for word in words), refused.value
