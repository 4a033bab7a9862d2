"""`ls`: what is there, how bad it is, and that a large trace stays readable."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from traces.inspector.catalogue import Entry
from traces.inspector.header import Header
from traces.inspector.judgements import Judgement, TensorName, tensor_of_unit
from traces.inspector.listing import LayerRow, Listing, StepRow, TensorRow
from traces.schema import RunDocuments, StepRecord, TensorSpec, TraceLayout
from traces.views import listing as listing_text
from traces.writer import TraceWriter


def tensors_of(document: dict) -> dict[str, dict]:
    return {tensor["path"]: tensor for layer in document["layers"] for tensor in layer["tensors"]}


def test_the_header_says_what_the_trace_is(run, small: Path) -> None:
    found = run("ls", small, "--json").document
    assert found["schema"] == "lockstep-trace-ls/1"
    assert (found["trace_schema"], found["steps_whole"], found["steps_planned"]) == ("lockstep-trace/1", 3, 6)
    assert (found["verdict"], found["first_divergence"]["op_index"]) == ("divergence", 7)
    assert found["lanes"]["candidate"]["place"] == "candidate:0"
    assert (found["seeds"], found["command"][-1], found["model"]) == ({"seed": 3}, "6", "Sequential tiny, 2 layers")


def test_every_tensor_has_its_worst_excess_and_the_steps_that_keep_it(run, small: Path) -> None:
    found = tensors_of(run("ls", small, "--json").document)
    assert list(found) == [  # in the order of the model's layers
        "activations/dense", "gradients/dense/kernel", "update/dense/kernel",
        "activations/dense_1", "gradients/dense_1/kernel", "activations/tokens",
    ]  # fmt: skip
    assert (found["activations/dense"]["worst"]["excess"], found["activations/dense"]["worst"]["step"]) == (40.0, 2)
    assert (found["gradients/dense/kernel"]["worst"]["excess"], found["gradients/dense_1/kernel"]["worst"]) == (
        0.7,
        None,
    )
    assert found["activations/dense"]["steps_kept"] == [0, 2]
    assert found["gradients/dense/kernel"]["steps_kept"] == [0, 1, 2]
    assert found["activations/dense_1"]["lanes"]["candidate"] == {"dtype": "bfloat16", "shape": [2, 2]}


def test_a_layers_worst_may_be_an_op(run, small: Path) -> None:
    layers = {layer["layer"]: layer for layer in run("ls", small, "--json").document["layers"]}
    assert list(layers) == ["dense", "dense_1", "tokens", "loss"]
    assert (layers["dense"]["worst"]["subject"], layers["dense"]["worst"]["excess"]) == ("op 7 MatMul of dense", 611.0)
    assert (layers["loss"]["tensors"], layers["loss"]["worst"]["excess"]) == ([], 0.03)


def test_a_layer_without_tensors_can_be_named(run, small: Path) -> None:
    found = run("ls", small, "loss", "--json").document
    assert [(layer["layer"], layer["worst"]["excess"]) for layer in found["layers"]] == [("loss", 0.03)]
    assert [step["num_judged"] for step in found["steps"]] == [0, 0, 1]


def test_steps_are_counted(run, small: Path) -> None:
    steps = run("ls", small, "--json").document["steps"]
    assert [(s["step"], s["num_judged"], s["num_unjudged"], s["num_divergences"]) for s in steps] == [
        (0, 3, 1, 0), (1, 3, 1, 0), (2, 6, 1, 2),
    ]  # fmt: skip
    assert [(s["num_tensors_kept"], s["num_tensors"]) for s in steps] == [(6, 6), (2, 6), (6, 6)]


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("dense", {"activations/dense", "gradients/dense/kernel", "update/dense/kernel"}),  # a layer
        ("gradients", {"gradients/dense/kernel", "gradients/dense_1/kernel"}),  # a kind
        ("*/kernel@0-1", {"gradients/dense/kernel", "gradients/dense_1/kernel", "update/dense/kernel"}),
        ("activations/dense*", {"activations/dense", "activations/dense_1"}),
    ],
)
def test_a_pattern_chooses_tensors(run, small: Path, pattern: str, paths: set[str]) -> None:
    assert tensors_of(run("ls", small, pattern, "--json").document).keys() == paths


def test_steps_may_be_chosen(run, small: Path) -> None:
    found = run("ls", small, "--steps", "0-1", "--json").document
    assert [step["step"] for step in found["steps"]] == [0, 1]
    assert tensors_of(found)["activations/dense"]["worst"]["excess"] == 0.25
    assert (
        run("ls", small, "dense@0-1", "--json").document["steps"]
        == run("ls", small, "dense", "--steps", "0-1", "--json").document["steps"]
    )


def test_all_gives_every_step_of_every_tensor(run, small: Path) -> None:
    found = tensors_of(run("ls", small, "--all", "--json").document)
    assert found["gradients/dense/kernel"]["excess_at"] == {"0": 0.5, "1": 0.6, "2": 0.7}
    lines = run("ls", small, "--all").lines
    assert [line for line in lines if line.startswith("Step ")] == ["Step 0", "Step 1", "Step 2"]
    assert [line.split()[-1] for line in lines if "activations/dense_1" in line] == ["yes", "no", "yes"]


def test_the_text_says_the_worst_step_first_and_what_to_do_next(run, small: Path) -> None:
    done = run("ls", small)
    assert done.code == 0
    assert "divergence: op 7 MatMul of dense, step 2, forward; format:tf32-rne, blame kernel, excess 611" in done.text
    assert "3 whole of 6 planned: 0-2" in done.out
    rows = [line.split() for line in done.lines if line and line.split()[0] in ("0-1", "2")]
    assert [row[:3] for row in rows] == [["2", "611", "2"], ["0-1", "0.6", "1"]]
    assert "values all 6 tensors in steps 0, 2; 2 of 6 tensors in step 1" in done.text
    assert done.line_of("gradients/dense/kernel  ").split() == [
        "gradients/dense/kernel",
        "2x3",
        "float32",
        "0.7",
        "2",
        "0-2",
    ]
    assert f"  python -m traces show {small} activations/dense@2" in done.lines
    assert f"  python -m traces show {small} --op 7 --step 2" in done.lines


def test_nothing_of_that_name(refused, small: Path) -> None:
    assert "did you mean activations/dense or" in refused("ls", small, "activation/dense")
    assert "no step 4; the trace holds steps 0-2" in refused("ls", small, "--steps", "4")


def test_a_trace_with_no_whole_step(run, write_empty) -> None:
    done = run("ls", write_empty)
    assert done.code == 0
    assert "No step is whole yet." in done.out
    assert "0 whole of 4 planned" in done.out
    assert "the run goes on, or was stopped" in done.out


@pytest.fixture
def write_empty(tmp_path: Path) -> Path:
    layout = TraceLayout(steps=4, tensors=(TensorSpec("dense", (2,), "float32", "reference", "activations"),))
    with TraceWriter(tmp_path / "trace.h5", layout, RunDocuments({"reference": {}, "candidate": {}})):
        pass
    return tmp_path / "trace.h5"


def test_a_step_written_again_counts_once(run, tmp_path: Path) -> None:
    spec = TensorSpec("dense", (2,), "float32", "reference", "activations")
    layout = TraceLayout(lanes=("reference",), tensors=(spec,))
    with TraceWriter(tmp_path / "trace.h5", layout, RunDocuments({"reference": {}})) as trace:
        for step, loss in ((0, 1.0), (1, 2.0), (1, 3.0)):
            trace.append_step(StepRecord(step, 0, {"reference": loss}))
    done = run("ls", tmp_path / "trace.h5")
    assert "2 whole: 0-1" in done.out
    assert "step 1: reference 3" in done.out


@pytest.mark.parametrize(
    ("unit", "layer", "variable", "tensor"),
    [
        ("layer:output", "dense", "", ("activations", "dense")),
        ("step:output of dense", "", "", ("activations", "dense")),
        ("layer:gradient of dense/kernel", "dense", "", ("gradients", "dense/kernel")),
        ("layer:value", "dense", "dense/kernel", ("update", "dense/kernel")),
        ("layer:velocity", "dense", "dense/kernel", ("velocity", "dense/kernel")),
        ("layer:MatMul", "dense", "", None),
        ("layer:value", "dense", "", None),
    ],
)
def test_a_unit_is_one_tensor_or_none(unit: str, layer: str, variable: str, tensor: tuple[str, str] | None) -> None:
    assert tensor_of_unit(unit, layer, variable) == tensor


def test_a_divergence_is_worse_than_a_larger_benign_excess(run, tmp_path: Path) -> None:
    """Of a tie decided the other way, or a Winograd convolution, an excess is no divergence (docs/BOUNDS.md)."""
    layout = TraceLayout()
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as trace:
        trace.append_step(StepRecord(0, 0, {"reference": 1.0, "candidate": 1.0}))
        row = {column.name: None for column in layout.unit_columns} | {"step": 0, "layer": "pool"}
        trace.append_units([
            row | {"unit": "layer:MaxPoolGrad", "excess": 900.0, "verdict": "rounding"},
            row | {"unit": "layer:output", "excess": 3.0, "verdict": "divergence"},
        ])  # fmt: skip
    (layer,) = run("ls", tmp_path / "t.h5", "--json").document["layers"]
    assert layer["worst"]["excess"] == 3.0


def test_outputs_of_one_layer_are_not_told_apart_by_guess(run, tmp_path: Path) -> None:
    layout = TraceLayout(
        tensors=tuple(TensorSpec(name, (2,), "float32", "reference", "activations") for name in ("split", "split:1"))
    )
    with TraceWriter(tmp_path / "t.h5", layout, RunDocuments({"reference": {}, "candidate": {}})) as trace:
        trace.append_step(StepRecord(0, 0, {"reference": 1.0, "candidate": 1.0}))
        row = {column.name: None for column in layout.unit_columns}
        trace.append_units([row | {"step": 0, "unit": "layer:output", "layer": "split", "excess": 3.0}])
    (layer,) = run("ls", tmp_path / "t.h5", "--json").document["layers"]
    assert (layer["layer"], layer["worst"]["excess"]) == ("split", 3.0)
    assert [tensor["worst"] for tensor in layer["tensors"]] == [None, None]


# -- a large model ---------------------------------------------------------------------------------


def large_listing(num_layers: int, num_steps: int) -> Listing:
    def judged(layer: int, step: int) -> Judgement:
        excess = 611.0 if (layer, step) == (142, 17) else (layer + step) / 1000
        name = f"block_{layer // 10}/depthwise_separable_convolution_{layer}"
        verdict = "divergence" if excess > 1 else "rounding"
        tensor = TensorName("activations", name)
        return Judgement("units", 0, tensor, step, "forward", name, "", "layer:output", -1, "", 0, excess, verdict)

    by_layer = [{step: judged(layer, step) for step in range(num_steps)} for layer in range(num_layers)]
    steps = []
    for step in range(num_steps):
        worst = max((of_layer[step] for of_layer in by_layer), key=lambda each: each.rank)
        steps.append(StepRow(step, worst, num_layers, 0, int(step == 17), num_layers if step == 17 else 0, num_layers))
    layers = []
    for of_layer in by_layer:
        name = of_layer[0].layer
        spec = TensorSpec(name, (32, 8, 8, 64), "float32", "reference", "activations")
        layers.append(
            LayerRow(of_layer, name, (TensorRow(of_layer, Entry("activations", name, name, (spec,)), (17,)),))
        )
    header = Header(
        "trace.h5", "lockstep-trace/1", "0.1", "", {}, (), {}, "", tuple(range(num_steps)), num_steps, {}, None
    )
    return Listing(header, tuple(steps), tuple(layers), ())


def lines_of(found: Listing, everything: bool, width: int) -> list[str]:
    to = io.StringIO()
    console = Console(file=to, width=width, markup=False, highlight=False)
    for part in listing_text.render(found, everything, width):
        console.print(part)
    return to.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_two_hundred_layers_and_fifty_steps_fit_on_one_page(width: int) -> None:
    lines = lines_of(large_listing(200, 50), False, width)
    assert len(lines) < 60
    assert max(len(line.rstrip()) for line in lines) <= width
    text = "\n".join(lines)
    first_step = next(line for line in lines if line.startswith("17 "))
    assert first_step.split()[:5] == ["17", "611", "17", "200", "1"]
    assert next(line for line in lines if line.startswith("0-16")).split()[1] == "0.21"  # layer 199, step 16
    assert "200 layers, 200 tensors, worst first" in text
    assert "... and 180 more layers, none of an excess above 0.23 (--all)" in text  # layer 180, step 49


def test_all_leaves_nothing_out() -> None:
    lines = lines_of(large_listing(30, 4), True, 120)
    assert sum(line.startswith("  activations/") for line in lines) == 30 * 4
