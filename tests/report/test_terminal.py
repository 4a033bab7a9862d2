"""The printed report of hand-made runs: every verdict and cause, at 80 columns and at 160."""

from __future__ import annotations

import io
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from diag.common.source_lines import SourceLine
from diag.common.wording import figure, shortened
from diag.numerics.figures import Bound, ClassCounts, PairStatistics, TruthStatistics
from diag.numerics.op_classes import ErrorClass
from diag.report.made_at import with_lines
from diag.report.path import MAX_PATH_ROWS, rows_to_keep
from diag.report.terminal import render
from diag.report.to_do import to_do
from diag.report.words import BLAME_WORDS, CAUSE_WORDS, explain_cures, name_of, over_bound, sentence, ulp_text
from diag.verdict.attribution import Attribution, Trial, Workaround
from diag.verdict.chaos import Curve, Trajectories
from diag.verdict.drift import Drift
from diag.verdict.findings import Divergence, FusedOps, Observation, Verdict, Where
from diag.verdict.result import NOTE, SIMULATED, Amplifier, Judged, LaneInfo, Notice, RunResult, as_notes
from traces.described import DescribedOp

COMPOSITE_RULE = "16 x (float64 spread + reference's own error) + 2 ULP"
FAULTY = "sim:metal-fused-dense/graph"


LINE = SourceLine("model.py", 31, "call", "x = tf.nn.conv2d(x, w) \x1b[2J")


def figures(kind, normwise, max_ulp, num_unequal=900, size=1000, num_mismatched=0):
    return kind(
        dtype="float32", size=size, num_unequal=num_unequal, num_zero_sign=0, num_compared=size, max=max_ulp,
        mean=1.0, rms=1.0, p50=1.0, p99=1.0, bias=0.0, histogram=np.zeros(98, np.int64), worst_index=(3, 7),
        worst_values=(0.125, 0.12500001), normwise_relative_error=normwise, max_relative_error=normwise,
        mean_relative_error=normwise, num_zero_reference=0, max_absolute_difference=normwise,
        classes=ClassCounts(nan_number=num_mismatched),
    )  # fmt: skip


def bound(excess, error_class=ErrorClass.COMPOSITE, rule=COMPOSITE_RULE):
    return Bound(error_class, excess, excess * 1e-7, excess * 4e-7, rule, (3, 7))


def observation(layer, phase="forward", excess=0.2, normwise=3e-7, max_ulp=12.0, **where):
    verdict = Verdict.DIVERGENCE if excess > 1 else Verdict.ROUNDING
    where = {"step": 0, "unit": "layer", **where}
    return Observation(
        Where(phase=phase, layer=layer, **where), (32, 512), "float32", verdict, bound(excess),
        figures(PairStatistics, normwise, max_ulp), figures(TruthStatistics, normwise, max_ulp),
        figures(TruthStatistics, 1e-7, 2.0),
    )  # fmt: skip


def identical(layer, **where):
    where = {"step": 0, "phase": "forward", "unit": "layer", **where}
    statistics = figures(PairStatistics, 0.0, 0.0, num_unequal=0)
    return Observation(Where(layer=layer, **where), (32,), "float32", Verdict.IDENTICAL, propagated=statistics)


LANES = (LaneInfo("reference", "CPU:0/graph", False), LaneInfo("candidate", "GPU:0/graph", False))
FAULTY_LANES = (LANES[0], LaneInfo("candidate", FAULTY, True))

CLEAN = RunResult(
    verdict="identical", first_divergence=None, divergences=(), first_bit_difference=None,
    first_nonfinite=None, amplifiers=(), steps=50, lanes=LANES,
    losses={"reference": [0.6931472] * 50, "candidate": [0.6931472] * 50},
    path=(identical("conv2d"), identical("loss")), microscope=(), worst=(),
    judged=Judged(layer_outputs=1700), model="cnn", data="generated images 64x64x3, 2 classes",
    files={"trace": "runs/2026-11-23T06-25/trace.h5"},
)  # fmt: skip

ROUNDING = replace(
    CLEAN,
    verdict="rounding",
    first_bit_difference=observation("conv2d"),
    path=(observation("conv2d", excess=0.21), observation("dense", excess=0.05), observation("loss", excess=0.02)),
    worst=(observation("conv2d", excess=0.21), observation("dense", excess=0.05)),
)

FUSED = Divergence(
    Where(0, "forward", "layer", "dense", order=40), "missing-op", "graph-rewriter", 1.23e6, ("eager",),
    {"summary": "Relu left out", "remaining_excess": 0.31, "chain": ["MatMul", "BiasAdd", "Relu"]}, "Relu left out",
)  # fmt: skip

GRADIENT = Divergence(
    Where(0, "backward", "layer", "dense", "dense/kernel"), "unknown", "graph-rewriter", 8123.0
)  # fmt: skip

CNN_FORWARD = ("conv2d", "max_pooling2d", "conv2d_1", "max_pooling2d_1", "conv2d_2", "max_pooling2d_2", "flatten")
CNN_BACKWARD = ("dense_1/kernel", "dense_1/bias", "dense/kernel", "dense/bias", "conv2d_2/kernel", "conv2d_2/bias")

DIVERGED = replace(
    CLEAN,
    verdict="divergence",
    first_divergence=FUSED,
    divergences=(
        FUSED,
        GRADIENT,
    ),
    first_bit_difference=observation("conv2d"),
    first_nonfinite=observation("loss", step=7),
    amplifiers=(Amplifier(observation("max_pooling2d_2", "backward"), 3.1e-7, 1.2e-3),),
    steps=20,
    lanes=FAULTY_LANES,
    losses={"reference": [0.6931] * 20, "candidate": [0.8127] * 19 + [math.nan]},
    path=(
        *(identical(layer) for layer in CNN_FORWARD),
        observation("dense", excess=1.23e6, normwise=0.71, max_ulp=3.1e9),
        observation("dropout", excess=0.0, normwise=0.71, max_ulp=3.1e9),
        observation("dense_1", excess=0.3, normwise=0.42, max_ulp=2.2e9),
        observation("loss", excess=0.1, normwise=0.17, max_ulp=2.1e6),
        *(
            observation(name.split("/")[0], "backward", 0.4, 0.5, 1e9, variable=name)
            for name in CNN_BACKWARD
        ),
        *(observation("optimizer", "optimizer", 0.1, 1.0, 2e9, variable=name) for name in CNN_BACKWARD),
    ),
    worst=(
        observation("dense", excess=1.23e6, normwise=0.71),
        observation("dense", "backward", excess=8123.0, variable="dense/kernel"),
        replace(
            observation("conv2d_1", "backward", 0.34, unit="op", op_type="Conv2DBackpropFilter", op_index=136,
                        variable="conv2d_1/kernel"),
            bound=bound(0.34, ErrorClass.CONTRACTION, "u|A||B|: rms <= 8, max <= 1.3e+03"),
        ),
    ),
    judged=Judged(34, 812, 3, (0,), ("TopKV2",), ("RandomUniform",)),
    notes=(
        Notice(SIMULATED, "SIMULATED: no GPU was found; this run shows what a known Metal fault looks like"),
        Notice(NOTE, "layer lambda has no float64 truth"),
    ),
)  # fmt: skip


LONG_NAMES = tuple(f"block{i}_separable_convolution_with_a_very_long_name_{i}" for i in range(150))
LARGE = replace(
    DIVERGED,
    path=(
        *(identical(name) for name in LONG_NAMES[:60]),
        observation(LONG_NAMES[60], excess=math.inf, normwise=math.inf, max_ulp=2.0**64),
        *(observation(name, excess=0.6, normwise=1e-3, max_ulp=1.2e5) for name in LONG_NAMES[61:]),
        observation("loss", excess=0.02, normwise=2.3e-5, max_ulp=210092.0),
        *(observation(name, "backward", 0.4, 1e-2, 1e9, variable=f"{name}/kernel") for name in LONG_NAMES),
    ),
    first_divergence=replace(FUSED, where=replace(FUSED.where, layer=LONG_NAMES[60]), excess=math.inf),
    worst=tuple(replace(observation(name, excess=0.1), bound=bound(0.1, rule=f"rule {name}")) for name in LONG_NAMES),
    divergences=tuple(replace(GRADIENT, where=replace(GRADIENT.where, layer=name)) for name in LONG_NAMES),
    judged=Judged(9000, 81200, 300, tuple(range(40)), LONG_NAMES[:5], LONG_NAMES[5:9]),
)


def rendered(result, width=80, next_commands=(), is_verbose=True):
    console = Console(record=True, width=width, file=io.StringIO())
    render(result, console, next_commands, is_verbose)
    return console.export_text()


def flat(text):
    return " ".join(text.split())


@pytest.mark.parametrize("width", [80, 160])
@pytest.mark.parametrize(
    "result", [CLEAN, ROUNDING, DIVERGED, LARGE], ids=["identical", "rounding", "divergence", "large"]
)
def test_no_line_is_wider_than_the_console(result, width):
    for is_verbose in (False, True):
        lines = rendered(result, width, (), is_verbose).splitlines()
        assert max(map(len, lines)) <= min(width, 100)
        assert not [line for line in lines if line != line.rstrip()]


def test_without_a_terminal_there_is_no_colour():
    file = io.StringIO()
    render(DIVERGED, Console(file=file, width=80))
    assert "\x1b" not in file.getvalue()


def test_the_whole_report_says_how_likely_it_is_by_rounding():
    assert "chance of rounding alone" in rendered(DIVERGED)
    assert "least likely error" in rendered(ROUNDING)
    assert "chance of rounding" not in rendered(DIVERGED, is_verbose=False)


def test_drift_stands_in_the_verdict():
    drift = Drift("candidate", ("Mul",), "up", 40, 38, 0.001, 0.1, 2e-8)
    text = " ".join(rendered(replace(ROUNDING, drift=(drift,)), is_verbose=False).split())
    assert "Drift: 38 in 40 Mul of the candidate rounds up: mean error 0.1 ULP over 40 ops" in text


def test_what_cannot_be_encoded_does_not_stop_the_report():
    written = io.BytesIO()
    file = io.TextIOWrapper(written, encoding="ascii")
    render(DIVERGED, Console(file=file, width=80))
    file.flush()
    assert b"Divergence at step" in written.getvalue()


# what is printed by default

PHASES = ("forward", "backward", "optimizer")
CODE_WORDS = ("telescope", "microscope", "lane", "twin", "taps", "excess", "div_no_nan", "['", "e+0")


@pytest.mark.parametrize("result", [DIVERGED, LARGE, ROUNDING], ids=["divergence", "large", "rounding"])
def test_by_default_a_page_in_plain_words(result):
    commands = ["python -m diag.lockstep --units op", "python -m diag.lockstep --follow candidate"]
    text = rendered(result, 100, commands, is_verbose=False)
    assert len(text.strip().splitlines()) <= 31
    assert not [word for word in CODE_WORDS if word in text]
    after = [text.index(part) for part in ("ivergence", "Do now", "The path of step 0", "trace.h5")]
    assert after[:3] == sorted(after[:3])
    rows = [line for line in text.splitlines() if any(f" {phase} " in line for phase in PHASES)]
    assert 3 <= len(rows) <= 7


def test_the_whole_report_is_in_plain_words_too():
    curve = Curve("twin 1", 1e-7, [1e-7] * 20, [1e-7] * 20, [])
    twins = Trajectories(replace(curve, name="candidate"), (curve,) * 3, (2e-7,) * 20)
    text = rendered(replace(DIVERGED, twins=twins), 100)
    assert "3 copies of the reference, each changed by one rounding" in flat(text)
    assert not [word for word in CODE_WORDS[:5] if word in text]


def test_the_line_that_made_what_is_wrong_is_named_as_text():
    text = rendered(replace(DIVERGED, first_divergence=replace(FUSED, lines=(LINE,))), 80, is_verbose=False)
    assert r"Made at model.py:31: x = tf.nn.conv2d(x, w) \x1b[2J" in text and "\x1b" not in text


OTHER = replace(LINE, line=32)
OPS = {
    number: DescribedOp(number, "", "", phase, layer, variable, line)
    for number, (phase, layer, variable, line) in enumerate([
        ("forward", "dense", None, LINE), ("forward", "dense", None, OTHER), ("forward", "other", None, OTHER),
        ("optimizer", "dense", "dense/kernel", LINE), ("forward", "dense", None, None),
    ])
}  # fmt: skip


@pytest.mark.parametrize(
    ("where", "fused", "lines"),
    [
        ({"unit": "op", "op_index": 1}, None, (OTHER,)),
        ({"unit": "op", "op_index": 9}, None, ()),
        ({}, None, (LINE, OTHER)),
        ({}, FusedOps("MatMul+Relu", (1, 4)), (OTHER,)),
        ({"layer": "other+next"}, None, (OTHER,)),
        ({"phase": "optimizer", "variable": "dense/kernel"}, None, (LINE,)),
        ({"layer": None, "unit": "step"}, None, ()),
    ],
)
def test_the_lines_of_a_unit_are_those_of_its_ops(where, fused, lines):
    wrong = replace(FUSED, where=replace(FUSED.where, **where), fused=fused)
    assert with_lines(replace(DIVERGED, divergences=(wrong,)), OPS).first_divergence.lines == lines


def test_what_cures_it_is_pasted_first():
    wrong = Trial((), unit=1e5, step=1e4)
    trial = Trial(("remapping=off",), unit=0.0, step=0.1)
    paste = Workaround("remapping=off", "tf.config.optimizer.set_experimental_options(...)", "one pass less", trial)
    found = Attribution(wrong, (trial,), ("remapping=off",), "graph-rewriter", "it is enough", (paste,))
    actions = to_do(replace(DIVERGED, attribution=found), ["python -m diag.lockstep --units op"])
    assert actions[0].code == paste.code and "one pass less" in actions[0].text
    assert "diag.attribute" in to_do(DIVERGED)[0].code
    assert to_do(DIVERGED)[0].text == "Find a cure that costs less (at most 10 minutes):"
    unknown = replace(DIVERGED, first_divergence=replace(FUSED, cured_by=()), cure_seconds=76.4)
    assert to_do(unknown)[0].text == "Find a cure (about 76 s):"


@pytest.mark.parametrize(
    ("excess", "text"),
    [
        (0.9999999, "< 1"),
        (1.0, "1"),
        (1.0000001, "> 1"),
        (0.999, "0.999"),
        (1.8e5, "180,000"),
        (math.inf, "not finite"),
    ],
)
def test_an_error_over_its_bound_stays_on_its_side_of_1(excess, text):
    assert over_bound(excess) == text


def test_distances_beyond_all_digits_are_no_figures():
    assert (ulp_text(2.0**24), ulp_text(1.9e9)) == ("1.7e7 ULP", "unrelated values")


# the verdict


def test_identical():
    text = rendered(CLEAN)
    assert "No divergence in 50 steps: the two places agree bit for bit." in text
    assert "1,700 layer outputs" in text
    assert (
        "over bound" not in text and "The path" not in text and "Largest errors" not in text
    )  # empty tables are left out


def test_rounding_says_where_bits_differ_first_and_how_near_the_bound_it_came():
    assert sentence(ROUNDING) == (
        "No divergence in 50 steps: the two places differ by rounding only; first bit difference at step 0, "
        "forward, conv2d; the largest error is 0.21 of what rounding can explain."
    )
    beyond = replace(ROUNDING.worst[0], bound=replace(ROUNDING.worst[0].bound, excess=1.5e4))
    # a step behind a tie, or a product that is right in norm
    assert sentence(replace(ROUNDING, worst=(beyond,))) == (
        "No divergence in 50 steps: the two places differ by rounding, and by what the notes name; first bit "
        "difference at step 0, forward, conv2d; the largest error: 15,000 times what rounding can explain by itself "
        "(--verbose has why)."
    )
    assert "900 of 1,000 elements differ, by at most 12 ULP; worst at [3, 7]" in flat(rendered(ROUNDING))


def test_a_fused_layer_whose_ops_are_innocent():
    assert sentence(DIVERGED) == (
        "Divergence at step 0, forward: layer dense, compiled as one unit on sim:metal-fused-dense/graph, "
        "is wrong (missing-op: Relu left out; 1,200,000 times what rounding can explain), while each of its ops "
        "is right by itself: "
        "blame the graph rewriter, which fuses and replaces ops when a step is compiled. "
        "It is cured by running eagerly."
    )


@pytest.mark.parametrize(
    ("judged", "inside", "expected"),
    [
        (Judged(34, 812, 0, (0,)), observation("dense", excess=0.3), "while each of its ops is right by itself"),
        (Judged(34, 812, 0, (0,)), replace(observation("dense"), verdict=Verdict.UNJUDGED), "that could be judged"),
        (Judged(34, 812, 0, (0,)), observation("dense", excess=30.0), None),  # an op is wrong
        (Judged(34, 0, 0, (0,)), observation("conv2d"), None),  # it judged nothing
        (Judged(34, 812, 0, (5,)), observation("conv2d"), None),  # it looked at another step
    ],
)
def test_ops_are_called_innocent_only_where_the_microscope_looked(judged, inside, expected):
    text = sentence(replace(DIVERGED, judged=judged, microscope=(inside,)))
    assert expected in text if expected else "by itself" not in text


def test_an_op():
    where = Where(3, "backward", "op", "conv2d_1", "conv2d_1/kernel", "Conv2DBackpropFilter", 136)
    tf32 = Divergence(where, "format:tf32-rne", "kernel", 611.0, ("tf32=off", "execution=eager"))
    assert sentence(replace(DIVERGED, lanes=LANES, first_divergence=tf32)) == (
        "Divergence at step 3, backward: op 136 Conv2DBackpropFilter of conv2d_1 (conv2d_1/kernel) on "
        "GPU:0/graph is wrong (format:tf32-rne: as if rounded to TF32, 10 mantissa bits, to nearest even; "
        "611 times what rounding can explain): blame the kernel, the device's own code for it. "
        "It is cured by tf32=off or by running eagerly."
    )


def test_an_update():
    where = Where(4, "optimizer", "layer", "optimizer", "dense/kernel")
    skipped = Divergence(where, "skipped-update", "state-update", math.inf)
    text = sentence(replace(DIVERGED, first_divergence=skipped))
    assert "step 4, optimizer: the optimizer's update of dense/kernel, compiled as one unit on" in text
    assert "(skipped-update: the variable was not written; no rounding does this): blame the state update" in text


def test_a_whole_step_run_eagerly():
    where = Where(9, "forward", "step", None)
    lanes = (LANES[0], LaneInfo("candidate", "GPU:0/eager", False))
    text = sentence(replace(DIVERGED, lanes=lanes, first_divergence=replace(FUSED, where=where)))
    assert "the whole step, run as one unit on GPU:0/eager, is wrong" in text


@pytest.mark.parametrize("cause", [*CAUSE_WORDS, "format:bf16", "format:e5m2", "accumulate:fp16", "made-up"])
@pytest.mark.parametrize("blame", [*BLAME_WORDS, "made-up"])
def test_every_cause_and_blame_makes_one_sentence(cause, blame):
    first = Divergence(FUSED.where, cause, blame, 20.0)
    text = sentence(replace(DIVERGED, first_divergence=first))
    assert f"({cause}" in text and text.count(". ") == 0 and text.endswith(".")
    assert ("no part of the stack is to blame" in text and " differs (" in text) == (blame == "none")
    assert cause in flat(rendered(replace(DIVERGED, first_divergence=first)))


def test_nothing_judged_is_no_success():
    text = rendered(replace(CLEAN, judged=Judged(0, 0, 12, (), (), ("MyOp",))))
    assert "NOTHING WAS JUDGED" in text
    assert "No verdict" in text and "No divergence" not in text
    assert "12 outputs of MyOp" in text


# the rest


def test_a_simulated_place_is_said_first_and_once():
    text = rendered(DIVERGED).strip()
    assert text.startswith("SIMULATED: no GPU was found; this run shows what a known Metal fault looks like")
    assert text.count("SIMULATED") == 1
    unsaid = rendered(replace(DIVERGED, notes=())).strip()
    assert unsaid.startswith("SIMULATED: candidate sim:metal-fused-dense/graph is no real device")


def test_path_shows_the_first_divergence_and_the_loss():
    lines = rendered(DIVERGED).splitlines()
    dense = next(line for line in lines if line.startswith(">!"))
    assert dense.split() == [">!", "dense", "forward", "1,200,000", "0.71", "unrelated", "values"]
    assert any(line.split() == ["loss", "forward", "0.1", "0.17", "2.1e6", "ULP"] for line in lines)
    losses = "step 0: reference 0.6931, candidate 0.8127 step 19: reference 0.6931, candidate nan"
    assert losses in flat(rendered(DIVERGED))


def test_a_long_path_is_cut_and_says_so():
    path = [observation(f"layer{i}", normwise=1e-7, excess=0.1) for i in range(300)]
    path[120] = observation("layer120", normwise=1e-7, excess=50.0)
    path[20] = observation("layer20", normwise=0.5)
    path += [observation("loss"), *(observation(f"layer{i}", "backward", 0.1) for i in range(300))]
    first = replace(FUSED, where=path[120].where)
    kept = rows_to_keep(path, 120)
    assert len(kept) == MAX_PATH_ROWS
    assert {20, 120, 300} <= set(kept) and kept == sorted(kept)
    text = rendered(replace(DIVERGED, path=tuple(path), first_divergence=first))
    assert "576 rows left out" in text
    assert (
        sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("    ...") and "rows" in line) == 576
    )


def test_a_short_path_is_whole():
    assert rows_to_keep(ROUNDING.path, 0) == [0, 1, 2]
    assert rows_to_keep((), 0) == []
    assert "row left out" not in rendered(DIVERGED) and "rows left out" not in rendered(DIVERGED)


def test_an_op_is_marked_at_its_layer():
    where = Where(0, "backward", "op", "dense", "dense/kernel", "MatMul", 99)
    text = rendered(replace(DIVERGED, first_divergence=replace(FUSED, where=where)))
    assert next(line for line in text.splitlines() if line.startswith("> ")).split()[1:3] == [
        "dense/kernel",
        "backward",
    ]


def test_worst_units_name_their_rule_and_the_lane_nearer_to_truth():
    text = rendered(DIVERGED)
    assert f"composite {COMPOSITE_RULE}; errors are absolute" in flat(text)
    assert "contraction  u|A||B|: rms <= 8, max <= 1.3e+03" in text
    worst = text.split("Largest errors")[1].splitlines()
    assert "reference" in next(line for line in worst if "1,200,000" in line)


def test_the_nearer_lane_is_not_guessed():
    worst = replace(observation("dense"), reference_local=None)
    text = rendered(replace(ROUNDING, worst=(worst,))).split("Largest errors")[1]
    assert next(line for line in text.splitlines() if line.startswith("dense")).endswith(" -")


def test_at_most_ten_worst_units():
    text = rendered(replace(ROUNDING, worst=tuple(observation(f"unit{i}") for i in range(30))))
    assert "unit9" in text and "unit10" not in text


def test_a_reference_that_is_less_accurate_is_said_to_be():
    counts = {
        "num_outputs": 12, "of_differing": 30, "num_out_of_bound": 0,
        "worst": {"op_index": 5, "op_type": "Rsqrt", "layer": "norm", "excess": 0.41},
    }  # fmt: skip
    said = "less accurate than the candidate in 12 of 30 op outputs that differ; most in op 5 Rsqrt of norm: 0.41"
    judged = Judged(34, 812, reference_less_accurate=counts)
    assert said in flat(rendered(replace(ROUNDING, judged=judged)))
    judged = replace(judged, reference_less_accurate={**counts, "num_outputs": 0, "worst": None})
    assert "less accurate" not in flat(rendered(replace(ROUNDING, judged=judged)))


def test_what_was_not_judged_is_never_hidden():
    text = flat(rendered(DIVERGED))
    assert "NOT judged 3 outputs of RandomUniform" in text
    assert "ran on the CPU TopKV2: no kernel on the candidate" in text
    assert "op by op step 0" in text


def test_an_error_that_is_no_number_is_not_hidden():
    bad = replace(observation("dense", excess=math.nan), verdict=Verdict.DIVERGENCE)
    text = rendered(replace(DIVERGED, worst=(bad,), path=(bad,), first_divergence=replace(FUSED, excess=math.nan)))
    assert "no rounding does this" in flat(text)
    assert ">!  dense" in text and "dense" in text.split("Largest errors")[1]


def test_evidence_may_hold_arrays():
    first = FUSED.with_evidence(mask=np.array([True, False]))
    text = rendered(replace(DIVERGED, first_divergence=first, divergences=(first.with_evidence(more=1), first)))
    assert "Diverging too" not in text


def test_details():
    text = flat(rendered(DIVERGED))
    assert "max_pooling2d_2, step 0, backward: 3.1e-7 became 0.0012, 3,871 times as much" in text
    assert "first non-finite step 7, forward, loss" in text
    assert "note layer lambda has no float64 truth" in text
    assert "dense/kernel step 0, backward unknown graph-rewriter 8,123" in text.split("Diverging too")[1]
    assert "evidence remaining excess 0.31; chain MatMul, BiasAdd, Relu" in text


def test_paths_and_commands_are_not_broken():
    command = "python -m diag.replay runs/2026-11-23T06-25/trace.h5 --step 0 --op 136 --emit reproducer.py"
    path = "/a/very/long/path/" + "folder/" * 20 + "trace.h5"
    lines = rendered(replace(CLEAN, files={"trace": path}), 80, [command]).splitlines()
    assert f"trace   {path}" in lines and f"  {command}" in lines


def test_names_with_brackets_are_no_markup():
    text = rendered(replace(DIVERGED, notes=as_notes(["[red]x[/red] [/]"]), model="[bold]"))
    assert "[red]x[/red] [/]" in text and "[bold]" in text


# words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (0.21, "0.21"), (1.0, "1"), (0.999, "0.999"), (1.0001, "1.001"),
        (9.94, "9.9"), (9.96, "10"), (99.7, "100"), (611.4, "611"),
        (99999.4, "99,999"), (1e5, "1e5"), (1.23e6, "1.2e6"), (3.1e-7, "3.1e-7"), (-12034.0, "-12,034"),
        (2.0**63, "9.2e18"), (math.inf, "inf"), (-math.inf, "-inf"), (math.nan, "-"), (5e-324, "4.9e-324"),
    ],
)  # fmt: skip
def test_figure(value, text):
    assert figure(value) == text


@given(st.floats(-1e300, 1e300))
def test_figure_is_short_and_true(value):
    text = figure(value)
    assert len(text) <= 9
    assert float(text.replace(",", "")) == pytest.approx(value, rel=0.051)


@given(st.text(), st.integers(5, 40))
def test_shortened_keeps_both_ends(text, width):
    short = shortened(text, width)
    assert len(short) <= width
    assert short == text or (text.startswith(short.split("...")[0]) and text.endswith(short.rsplit("...", 1)[-1]))


def test_cures():
    assert explain_cures(()) == ""
    assert explain_cures(("xla",)) == "It is cured by compiling with XLA."


@pytest.mark.parametrize(
    ("where", "name"),
    [
        (Where(0, "forward", "layer", "lstm", output=1), "lstm [1]"),
        (Where(0, "backward", "layer", "dense", "dense/kernel"), "dense/kernel"),
        (Where(0, "optimizer", "layer", "optimizer", "dense/kernel"), "optimizer dense/kernel"),
        (Where(0, "forward", "step", None), "whole step"),
        (Where(0, "forward", "layer", "loss", name="div_no_nan"), "loss value"),
        (Where(0, "backward", "layer", "dense_1", name="MatMul"), "gradient into dense_1"),
        (Where(0, "forward", "layer", "dropout", name="dropout/seed_generator_state"), "dropout's random state"),
        (Where(0, "optimizer", "layer", "dense", "dense/kernel", name="velocity"), "velocity of dense/kernel"),
        (Where(0, "forward", "op", "top", None, "TopKV2", 4, 1), "op 4 TopKV2 [1] of top"),
        (Where(0, "optimizer", "op", "optimizer", "d/k", "AssignSub", 9), "op 9 AssignSub of d/k"),
        (Where(0, "forward", "op", None, None, "Cast", 0), "op 0 Cast"),
    ],
)  # fmt: skip
def test_names(where, name):
    assert name_of(where) == name
