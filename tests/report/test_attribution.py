"""What is printed of trials made by hand."""

from __future__ import annotations

import io

from rich.console import Console

from diag.report.attribution import render, report
from diag.verdict.attribution import Attribution, Trial, Workaround

CURED = Trial(("remapping=off",), None, 0.25, 0.5, 0.002)
BASELINE = Trial((), None, 5000.0, 7000.0, 0.001)
LONG = 'tf.config.optimizer.set_experimental_options({"use_plugin_optimizers": False})  # longer than the console is'
FOUND = Attribution(
    BASELINE,
    (CURED, Trial(("constant_folding=off",), None, 4900.0, 7000.0), Trial(("execution=xla",), reason="XLA cannot")),
    ("remapping=off",),
    "graph-rewriter",
    "its ops are right by themselves",
    (Workaround("remapping=off", LONG, "one pass less", CURED),),
    (),
    {"tf32=off": "no GPU", "TURN_OFF_REMAPPER=1": "no Metal", "execution=graph": "no GPU"},
)


def printed(found: Attribution) -> str:
    console = Console(width=80, file=io.StringIO())
    render(found, console)
    return console.file.getvalue()


def test_the_table_says_of_each_switch_what_came_of_it():
    lines = printed(FOUND).splitlines()
    assert next(line for line in lines if line.startswith("remapping=off")).split() == (
        "remapping=off 0.25 0.5 2 cures it".split()
    )
    assert next(line for line in lines if line.startswith("constant_folding=off")).rstrip().endswith("still wrong")
    assert any("execution=xla could not be run: XLA cannot" in line for line in lines)


def test_code_to_paste_stays_in_one_line_and_reasons_are_named_once():
    text = printed(FOUND)
    assert f"   {LONG}" in text.splitlines()
    assert "tf32=off, execution=graph (no GPU); TURN_OFF_REMAPPER=1 (no Metal)" in " ".join(text.split())


def test_where_nothing_was_wrong_again_nothing_is_claimed():
    text = " ".join(printed(Attribution(Trial((), unit=0.5))).split())
    assert "Not attributed" in text and "cure" not in text


def test_the_report_has_every_trial_with_its_outcome():
    contents = report(FOUND)
    assert [trial["outcome"] for trial in contents["trials"]] == ["cures", "diverges", "not run"]
    assert contents["workarounds"][0]["code"] == LONG
    assert contents["cures"] == ["remapping=off"] and contents["reproduced"] is True


def test_a_flagged_op_that_is_right_this_time_is_said_to_be():
    """As on an H100: cuDNN chose another kernel for the flagged convolution, and the step was wrong all the same."""
    cure = Trial(("tf32=off",), 0.27, 0.036, 0.21)
    found = Attribution(Trial((), 0.27, 0.036, 155.0), (cure,), ("tf32=off",), "kernel", "tf32=off is enough")
    text = " ".join(printed(found).split())
    assert "The flagged op is right in this process, where the step is not" in text
    assert report(found)["flagged_is_right"] is True
    assert report(FOUND)["flagged_is_right"] is False and "is right in this process" not in printed(FOUND)


def test_a_reason_of_two_sentences_is_printed_whole():
    cause = (
        "The GPU implementation of SparseSoftmaxCrossEntropyWithLogits that would have been executed is not "
        "deterministic. Note that the Python API uses an alternative, deterministic, GPU-accelerated path when "
        "determinism is enabled."
    )
    found = Attribution(BASELINE, (Trial(("deterministic=on",), reason=cause),))
    assert cause in " ".join(printed(found).split())
