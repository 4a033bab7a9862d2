"""What is trained while it is timed: the motivating CNN, one batch, and two lanes on the CPU."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.lane import Lane
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.training.setup import Named, Trained, set_up
from diag.machine.places import Place


@dataclass(frozen=True)
class Workload:
    """A traced training step and the batch it is timed on.

    start: the state before the first step.
    moved: the same with every weight and slot one ULP up, from which nearly every value of a step differs.
    """

    model: keras.Model
    program: Program
    batch: Sequence[tf.Tensor]
    start: Sequence[tf.Tensor]
    moved: Sequence[tf.Tensor]

    def lane(self, name: str, execution: str) -> Lane:
        return Lane.at(name, Place("CPU:0", execution), self.program, seed=0)


def motivating_workload(image_size: int, batch_size: int) -> Workload:
    """The motivating CNN on square images of noise, (batch_size, image_size, image_size, 3)."""
    trained = motivating_training(image_size, batch_size)
    assert trained.model is not None
    batch = trained.batches[0]
    program = trace(trained.model, batch)
    start = program.initial_state()
    feeds = [tf.constant(value) for value in flat_batch(batch)]
    return Workload(trained.model, program, feeds, start, [moved(value) for value in start])


def motivating_training(image_size: int, batch_size: int) -> Trained:
    """The motivating CNN and its one batch, from which every step is."""
    rng = np.random.default_rng(0)
    images = rng.random((batch_size, image_size, image_size, 3), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "images.npz"
        np.savez(data, x=images, y=np.arange(batch_size) % 2)
        trained = set_up(Named(data=str(data)), batch_size, steps=1, seed=0)
        trained.batches[0]  # read before the folder goes
    return trained


def moved(value: tf.Tensor) -> Any:
    if not value.dtype.is_floating:
        return value
    return tf.constant(np.nextafter(to_numpy(value), np.float32(np.inf)))
