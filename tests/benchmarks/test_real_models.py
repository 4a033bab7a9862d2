"""The rows of models that people train, from figures made up here; and one process, of the smallest model."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import real_models
from benchmarks.real_models import Asked, measure, rows
from benchmarks.rounding import thirds
from benchmarks.table import page

RUN = {"first": 6.0, "first_cpu": 8.0, "checked": 0.3, "checked_cpu": 0.4, "watched": 0.11, "watched_cpu": 0.11,
       "plain": 0.1, "plain_cpu": 0.1, "look": 2.0, "look_cpu": 2.0, "eager": 1.0, "eager_cpu": 1.0, "peak": 2.0,
       "ops": 100, "verdict": "exit code 0, no divergence"}  # fmt: skip
FIT = {"first": 3.0, "first_cpu": 2.0, "peak": 1.0}
FOUND = {"fit": FIT, "run": RUN, "again": {**FIT, "first": 2.0}, "fault": {"first": 9.0, "first_cpu": 8.0},
         "least": {"first": 4.0, "first_cpu": 4.0}}  # fmt: skip


def test_each_row_is_a_figure_over_another() -> None:
    measured = {row.what.removeprefix("mobilenet: ").split(",")[0]: row for row in rows("mobilenet", FOUND)}
    first = measured["first verdict"]  # the last of two rows of that beginning: over the least
    assert (first.measured, first.by_cpu, first.met) == (1.5, 2.0, "met")
    assert measured["a checked step"].measured == pytest.approx(3.0)
    assert measured["a watched step"].met == "met"
    assert measured["peak memory"].by_cpu is None and measured["peak memory"].measured == 2.0
    over_fit = next(iter(rows("mobilenet", FOUND)))
    assert over_fit.measured == 3.0 and "no divergence" in over_fit.detail  # the shorter of two fits


def test_what_did_not_end_is_said_and_not_met() -> None:
    late = {**FOUND, "run": {"failed": "did not end within 5 s"}}
    for row in rows("mobilenet", late):
        assert math.isinf(row.measured) and row.met == "not met" and row.detail == "did not end within 5 s"


def test_growth_is_the_exponent(monkeypatch: pytest.MonkeyPatch) -> None:
    ops = {"mlp": 100, "lstm": 400}
    monkeypatch.setattr(
        real_models,
        "_figures",
        lambda asked, model: {**FOUND, "run": {**RUN, "ops": ops[model], "first_cpu": ops[model] ** 2}},
    )
    assert list(measure(Asked(("mlp", "lstm"))))[-1].measured == pytest.approx(2.0)


def test_the_page_holds_every_row() -> None:
    told = {"machine": "a machine", "load": "load average 0", "rows": [row.to_dict() for row in rows("mlp", FOUND)]}
    text = page([told, {**told, "machine": "another"}])
    assert text.count("## ") == 2 and text.count("| mlp: ") == 2 * len(told["rows"])


def test_thirds_are_right_but_for_rounding_and_other_bits() -> None:
    @tf.function
    def twice(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        return tf.matmul(tf.matmul(a, b), b)

    a, b = (tf.constant(np.random.default_rng(seed).normal(size=(20, 20)).astype(np.float32)) for seed in (0, 1))
    graph = twice.get_concrete_function(a, b).graph.as_graph_def()
    graph_of_thirds = tf.compat.v1.GraphDef.FromString(graph.SerializeToString())
    names = [node.name for node in graph.node if node.op == "Placeholder"]
    found = []
    for each in (graph, thirds(graph_of_thirds)):
        with tf.Graph().as_default() as imported:
            tf.import_graph_def(each, name="")
            with tf.compat.v1.Session(graph=imported) as session:
                found.append(
                    session.run("Identity:0", {f"{n}:0": v.numpy() for n, v in zip(names, (a, b), strict=True)})
                )
    assert (found[0] != found[1]).any()
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_process_tells_its_figures() -> None:
    command = [sys.executable, "-m", "benchmarks.real_models", "mlp", "fit", "CPU:0"]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    assert told["first"] > 0 and told["peak"] > 0.1
