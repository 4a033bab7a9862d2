"""The command that shows what TensorFlow makes of a step."""

from __future__ import annotations

import json
import re

import pytest

from diag import graph


def said(capsys, *arguments: str) -> str:
    assert graph.main([*arguments, "--batch-size", "4"]) == 0
    return capsys.readouterr().out


def test_layer_by_layer_in_words(capsys):
    text = said(capsys, "--model", "tests/zoo.py:convolutions")
    assert re.search(
        r"^  conv: Conv2D\+BiasAdd\+Relu fused into \w*FusedConv2D \(BiasAdd\+Relu\), forward$", text, re.M
    )
    assert "never executed, since nothing needs the result:" in text


def test_what_is_not_watched_is_said_and_the_rest_breaks_nothing(capsys):
    """The sum of the shortcut is added up another way where it is watched (tests/engine/step/test_watching.py)."""
    text = said(capsys, "--model", "tests/zoo.py:xception_block", "--taps")
    assert "Watching its tensors breaks no fusion here." in text
    assert re.search(r"not watched, since that might break a fusion: \S*shortcut_norm\S*: only AddV2 reads it", text)
    assert "only Relu reads it" in text


def test_json(capsys):
    found = json.loads(said(capsys, "--model", "tests/zoo.py:perceptron", "--taps", "--json"))
    assert found["schema"] == "lockstep-graph/1" and found["known"] and found["taps"]["lost"] == []
    (hidden,) = [c for c in found["changes"] if [p["op"] for p in c["parts"]] == ["MatMul", "BiasAdd", "Relu"]]
    assert hidden["kind"] == "fused" and {p["layer"] for p in hidden["parts"]} == {"hidden"}


@pytest.mark.parametrize("arguments", [["--place", "CPU:0/eager"], ["--place", "nowhere"], ["--place", "GPU:9"]])
def test_a_question_that_cannot_be_asked_is_one_line(capsys, arguments):
    assert graph.main([*arguments, "--model", "tests/zoo.py:perceptron"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
