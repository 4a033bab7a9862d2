"""What an op at a place is held to: by device, and where the op really runs."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.graph import Node, node_of
from diag.engine.graphs.pinning import pin
from diag.engine.graphs.tf_runtime import attributes
from diag.engine.truth import kinds
from diag.engine.truth.op_judge import OpEvidence, OpJudge
from diag.machine.places import parse_place

CPU, GPU = parse_place("CPU:0/eager"), parse_place("GPU:0/eager")
X = np.linspace(-3, 3, 64, dtype=np.float32)


def exp_node() -> Node:
    graph = tf.function(tf.exp).get_concrete_function(tf.TensorSpec(X.shape)).graph
    (op,) = [op for op in graph.get_operations() if op.type == "Exp"]
    return node_of(op)


def kinds_at(place, node, has_kernel=True, monkeypatch=None, dtype="float32"):
    if monkeypatch is not None:
        monkeypatch.setattr(kinds, "has_kernel", lambda op, attrs, device: has_kernel)
    return kinds.kinds_of(place, node.op, attributes(node.proto), node.proto, dtype)


@pytest.mark.parametrize("place", ["CPU:0/eager", "CPU:0/xla", "sim:tf32", "rewrite:some.py:function"])
def test_what_runs_on_this_cpu_is_held_to_its_kernels(place):
    assert kinds_at(parse_place(place), exp_node()) == ("tensorflow-cpu", "opencl")
    assert kinds_at(parse_place(place), exp_node(), dtype="float16") == ("tensorflow-cpu",)


def test_a_gpu_is_held_to_the_widest_of_what_its_kernels_may_be(monkeypatch):
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: True)
    assert kinds_at(GPU, exp_node(), True, monkeypatch) == ("cuda", "xla-gpu", "opencl")
    monkeypatch.setattr(tf.test, "is_built_with_cuda", lambda: False)
    assert kinds_at(GPU, exp_node(), True, monkeypatch) == ("opencl",)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert kinds_at(GPU, exp_node(), True, monkeypatch) == ("metal", "opencl")


def test_what_a_gpu_leaves_to_the_cpu_is_held_to_the_cpu(monkeypatch):
    assert kinds_at(GPU, exp_node(), False, monkeypatch) == ("tensorflow-cpu", "opencl")
    pinned = exp_node()
    pin(pinned.proto)
    assert kinds_at(GPU, pinned, True, monkeypatch) == ("tensorflow-cpu", "opencl")


@pytest.mark.parametrize("dtype, ulp, cpu, gpu", [(np.float16, 2, False, True), (np.float32, 2.9, True, True),
                                                    (np.float32, 6, False, False)])  # fmt: skip
def test_each_lane_is_held_to_its_own_place(monkeypatch, dtype, ulp, cpu, gpu):
    """exp of float32 may be 3 ULP off anywhere, of float16 2 by OpenCL, and 0.6 where it is computed in float32."""
    monkeypatch.setattr(kinds, "has_kernel", lambda op, attrs, device: True)
    x = X.astype(dtype)
    graph = tf.function(tf.exp).get_concrete_function(tf.TensorSpec(x.shape, dtype)).graph
    (op,) = [op for op in graph.get_operations() if op.type == "Exp"]
    truth = np.exp(x.astype(np.float64))
    nearest = truth.astype(dtype)
    steps = np.floor(ulp - 0.5) * np.spacing(nearest)  # so that with the rounding it is no more than that
    off = (nearest.astype(np.float64) + steps).astype(dtype)
    judge, evidence = OpJudge(reference=CPU, candidate=GPU), OpEvidence(node_of(op), [tf.constant(x)], [off], [off])
    (of_candidate,), (of_reference,) = judge.judge(evidence), judge.reference(evidence)
    assert of_candidate.bound is not None and of_reference.bound is not None
    assert (of_reference.bound.is_explained, of_candidate.bound.is_explained) == (cpu, gpu)


def test_a_format_without_a_row_is_judged_as_a_composite():
    """1 / (y y) underflows in float16: what the reference loses there is no fault of a candidate that does the same."""
    y, gradient = np.array([3e-4, 1.0], np.float16), np.array([2692.0, 1.0], np.float16)
    graph = tf.function(lambda a, b: tf.raw_ops.ReciprocalGrad(y=a, dy=b)).get_concrete_function(
        *(tf.TensorSpec((2,), tf.float16) for _ in range(2))
    ).graph  # fmt: skip
    (op,) = [op for op in graph.get_operations() if op.type == "ReciprocalGrad"]
    inputs = [tf.constant(y), tf.constant(gradient)]
    found = tf.raw_ops.ReciprocalGrad(y=inputs[0], dy=inputs[1]).numpy()
    (judged,) = OpJudge().judge(OpEvidence(node_of(op), inputs, [found], [found]))
    assert judged.bound is not None and judged.bound.is_explained
    (wrong,) = OpJudge().judge(OpEvidence(node_of(op), inputs, [found * np.float16(1.1)], [found]))
    assert wrong.bound is not None and not wrong.bound.is_explained
