"""A place whose quotients and roots are within their bounds, and all of them too small; or as often too large."""

from __future__ import annotations

import json

import pytest

from diag import lockstep

PLACES = "sim:tests/faults/planted.py"


def judged(fault, tmp_path):
    place = ("--model", "tests/zoo.py:xception_block", "--candidate", f"{PLACES}:{fault}")
    out = ("--steps", "1", "--batch-size", "4", "--dump", "none", "--quiet", "--out", str(tmp_path / fault))
    code = lockstep.main([*place, *out])
    return code, json.loads((tmp_path / fault / "report.json").read_text())


@pytest.mark.slow
def test_a_bias_within_every_bound(tmp_path, capsys):
    code, report = judged("nearer_to_zero", tmp_path)
    assert (code, report["verdict"], report["divergences"]) == (0, "rounding", [])
    (drift,) = report["drift"]
    assert (drift["lane"], drift["op_types"], drift["direction"]) == ("candidate", ["RealDiv", "Sqrt"], "towards zero")
    assert -0.3 < drift["mean_error_ulp"]["candidate"] < -0.05 and abs(drift["mean_error_ulp"]["reference"]) < 0.05
    assert drift["num_leaning"] == drift["num_ops"] >= 24 and drift["chance"] < 1e-6
    assert drift["sentence"] in " ".join(capsys.readouterr().out.split())


@pytest.mark.slow
def test_errors_on_both_sides_are_none(tmp_path):
    code, report = judged("off_on_both_sides", tmp_path)
    assert (code, report["verdict"], "drift" in report) == (0, "rounding", False)
