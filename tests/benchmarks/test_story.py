"""The story's data and figures against counts, and its first steps: whom the fault strikes, and what is named there."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import story
from benchmarks.story import FAULTY, HEALTHY, NUM_BATCHES, Training


def test_15_percent_of_the_labels_are_wrong_and_no_other_sample_is_trained_on():
    points, labels = story.noisy()
    same_points, classes, _ = story.samples(seed=1)
    np.testing.assert_array_equal(points, same_points)
    assert 0.12 < np.mean(labels != classes) < 0.18
    others = story.samples(seed=2)[0]
    assert not {row.tobytes() for row in others} & {row.tobytes() for row in points}


def test_where_it_goes_wrong():
    def training(*epochs: float) -> Training:
        losses = tuple(np.repeat(epochs, NUM_BATCHES))
        return Training(FAULTY, "float32", losses, (0.5,) * len(epochs), {})

    assert training(1.0, 0.5, 0.9).goes_wrong_at is None
    assert training(1.0, 0.5, 1.1, 2.0).goes_wrong_at == 2 * NUM_BATCHES
    assert training(1.0, float("nan")).goes_wrong_at == NUM_BATCHES


@pytest.mark.parametrize(
    ("policy", "is_struck"),
    [("float32", True), pytest.param("mixed_float16", True, marks=pytest.mark.slow), ("mixed_bfloat16", False)],
)
def test_bfloat16_alone_is_spared(policy, is_struck):
    healthy, faulty = (story.train(policy, place, NUM_BATCHES) for place in (HEALTHY, FAULTY))
    assert (healthy.losses != faulty.losses) is is_struck


def test_the_tool_is_run_on_a_step_of_the_faulty_training(tmp_path):
    result = story.judged_at(story.train("float32", FAULTY, NUM_BATCHES), 0, tmp_path)
    first = result.first_divergence
    assert first is not None and (first.where.layer, first.blame) == ("hidden_1", "graph-rewriter")
    assert {d.where.layer for d in result.divergences} == {"hidden_1", "hidden_2"}
    assert (tmp_path / "trace.h5").exists()
