"""Faults that only compiling shows, between layers and between phases: found, named, and not hidden by looking.

The rewriters are written here; what they change is the oracle.
"""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from diag import lockstep
from diag.engine.localization import tf32_cure as switches
from diag.engine.localization.explainers import UnitExplainer
from diag.numerics.bounds import exact_bound

FILE = '''
from collections import Counter
import keras
import numpy as np
import tensorflow as tf

layers = keras.layers

def chain():
    return keras.Sequential([
        keras.Input((5,)), layers.Dense(8, name="first"), layers.Activation("relu", name="relu"),
        layers.Dense(3, activation="softmax", name="classes"),
    ])

def one_kernel():
    return keras.Sequential([keras.Input((5,)), layers.Dense(3, activation="softmax", use_bias=False, name="only")])

def softened():
    return keras.Sequential([
        keras.Input((5,)), layers.Dense(4, activation="softmax", name="soft"), layers.Dense(3, name="last"),
        layers.Softmax(name="classes", dtype="float32"),
    ])

def two_outputs():
    inputs = keras.Input((5,))
    hidden = layers.Activation("relu", name="relu")(layers.Dense(8, name="first")(inputs))
    outputs = {name: layers.Dense(3, activation="softmax", name=name)(hidden) for name in ("left", "right")}
    model = keras.Model(inputs, outputs)
    model.compile("adam", loss=dict.fromkeys(outputs, "sparse_categorical_crossentropy"))
    return model

def numbers():
    return np.random.default_rng(0).normal(size=(16, 5)).astype("float32"), np.arange(16, dtype="int32") % 3

def two_labels():
    x, y = numbers()
    return x, {"left": y, "right": y[::-1].copy()}

def wiring(graph):
    readers = Counter(t.split(":")[0] for n in graph.node for t in n.input if not t.startswith("^"))
    nodes = {n.name: n for n in graph.node}
    return readers, lambda node, i: nodes[node.input[i].split(":")[0]]

def backward(graph):
    """A gradient's product and the ReluGrad of the layer before become one, without the mask."""
    readers, source = wiring(graph)
    for node in graph.node:
        if node.op == "ReluGrad" and source(node, 0).op == "MatMul" and readers[source(node, 0).name] == 1:
            node.op = "Identity"
            del node.input[1:]
    return graph

def crossing(graph):
    """A kernel's gradient takes what went into the relu before it, if nothing else reads that."""
    readers, source = wiring(graph)
    for node in graph.node:
        if node.op == "MatMul" and node.attr["transpose_a"].b and source(node, 0).op == "Relu":
            inside = source(source(node, 0), 0)
            if inside.op == "BiasAdd" and readers[inside.name] == 1:
                node.input[0] = inside.name + ":0"
    return graph

def unless_watched(graph):
    """A relu is left out, but not where its output is fetched."""
    fetched = {n.input[0].split(":")[0] for n in graph.node if n.name.startswith("fetch/")}
    for node in graph.node:
        if node.op == "Relu" and node.name not in fetched:
            node.op = "Identity"
    return graph

def with_tf32(graph):
    """A fused kernel that is wrong while TF32 is allowed, as one that rounds where the op's own kernel does not."""
    if tf.config.experimental.tensor_float_32_execution_enabled():
        for node in graph.node:
            if node.op == "Softmax":
                node.op = "Identity"
    return graph
'''


@dataclass(frozen=True)
class Ran:
    code: int
    text: str
    report: dict[str, Any]

    @property
    def first(self) -> dict[str, Any]:
        found: dict[str, Any] = self.report["first_divergence"]
        return found

    def named(self, *keys: str) -> tuple[Any, ...]:
        return tuple(self.first[key] for key in keys)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fused")
    file = folder / "file.py"
    file.write_text(FILE)

    def ran(candidate: str, model: str = "chain", data: str = "numbers", *more: str) -> Ran:
        out, text = folder / f"run{len(list(folder.iterdir()))}", io.StringIO()
        given = ["--model", f"{file}:{model}", "--data", f"{file}:{data}", "--batch-size", "8", "--steps", "1"]
        candidate = f"rewrite:{file}:{candidate}" if candidate in FILE else candidate
        with redirect_stdout(text):
            code = lockstep.main([*given, "--candidate", candidate, "--quiet", "--verbose", "--out", str(out), *more])
        return Ran(code, " ".join(text.getvalue().split()), json.loads((Path(out) / "report.json").read_text()))

    return ran


def test_a_chain_over_two_layers_is_found_although_each_is_right(run):
    """The reported fault of Apple's GPU, with the relu in a layer of its own, and two readers of what it hands on."""
    ran = run("sim:metal-fused-dense", "two_outputs", "two_labels")
    assert ran.named("unit", "phase", "layer", "cause", "blame") == (
        "layer", "forward", "relu", "missing-op", "graph-rewriter",
    )  # fmt: skip
    evidence = ran.first["evidence"]
    assert evidence["region"] == "MatMul+BiasAdd+Relu" and evidence["layers"] == ["first", "relu"]
    assert evidence["vanishes_when_watched"] == ["MatMul", "BiasAdd"]  # and not its end, the Relu
    assert "Not watched, since that might break a fusion: first (only Relu reads it)" in ran.text
    assert "right when the output of MatMul or BiasAdd is watched" in ran.text
    assert [part["op"] for part in evidence["rewrites"]["absent"]["left-out"]] == ["Relu"]
    assert "What to send" in ran.text and "--layer relu" in ran.text


def test_a_fault_of_the_backward_pass_alone_is_named_with_both_layers(run):
    ran = run("backward")
    assert ran.named("unit", "phase", "layer", "blame") == ("layer", "backward", "relu", "graph-rewriter")
    assert ran.first["evidence"]["region"] == "MatMul+ReluGrad"
    assert ran.first["evidence"]["layers"] == ["classes", "relu"]


def test_a_fault_from_the_forward_into_the_backward_pass(run):
    """The wrong gradient is that of the last kernel; three layers have a part in it."""
    ran = run("crossing")
    assert ran.named("phase", "layer", "blame") == ("backward", "classes", "graph-rewriter")
    assert ran.first["evidence"]["layers"] == ["first", "relu", "classes"]
    assert ran.first["evidence"]["region"] == "BiasAdd+Relu+MatMul"


def test_a_fault_that_vanishes_when_watched_is_found_unwatched(run):
    ran = run("unless_watched")
    assert ran.code == 1 and ran.first["blame"] == "graph-rewriter"
    assert "vanishes when its tensors are watched" in ran.text


def test_a_fused_kernel_that_rounds_is_the_kernel_s_fault(run, monkeypatch):
    """Its ops are right by themselves, and TF32 off is enough, which was run: no rewriter is to blame."""
    monkeypatch.setattr(switches, "_has_tf32", lambda place: True)
    ran = run("with_tf32", "softened")
    assert ran.named("layer", "blame", "cured_by") == ("soft", "kernel", ["tf32=off"])


def test_the_optimizer_s_rewriter_strikes_where_something_is_compiled(run):
    ran = run("sim:fused-adam-no-bias-correction", "one_kernel")
    assert ran.named("unit", "phase", "variable", "blame") == ("layer", "optimizer", "only/kernel", "graph-rewriter")
    assert run("sim:fused-adam-no-bias-correction/eager", "one_kernel").code == 0


def test_a_layers_wrong_decisions_have_no_rounding_to_look_for():
    """Booleans that leave a compiled layer: they have no float64 truth, and the run ended as a bug of ours."""
    reference = np.array([True, False, True, True])
    candidate = np.array([True, True, False, True])
    run = SimpleNamespace(candidate=[tf.constant(candidate)], reference=[tf.constant(reference)])
    cause = UnitExplainer(None).explain(run, 0, exact_bound(candidate, reference))
    assert (cause.name, cause.facts["num_wrong"]) == ("wrong-elements", 2)
