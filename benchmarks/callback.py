"""What `diag.LockstepCallback` costs a training of 1,000 steps that it checks five of: `--only callback`."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import numpy as np
from keras import layers

import diag
from benchmarks.real_models import ROUNDING
from benchmarks.timing import Row, TimedTask, interleaved, ratio

NAME = "callback"
STEPS, EVERY, BATCH, EPOCHS = 1000, 200, 32, 10


class _Training:
    """A small CNN on 32x32 images of three channels, made anew for each round and trained by `fit`."""

    def __init__(self, is_checked: bool) -> None:
        self.is_checked = is_checked
        rows = STEPS // EPOCHS * BATCH
        self.x = np.random.default_rng(0).normal(size=(rows, 32, 32, 3)).astype(np.float32)
        self.y = np.arange(rows) % 10

    def prepare(self) -> None:
        keras.utils.set_random_seed(1)
        self.model = keras.Sequential(
            [
                keras.Input((32, 32, 3)),
                layers.Conv2D(32, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Conv2D(64, 3, activation="relu"),
                layers.MaxPooling2D(),
                layers.Flatten(),
                layers.Dropout(0.3),
                layers.Dense(64, activation="relu"),
                layers.Dense(10, activation="softmax"),
            ]
        )
        self.model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

    def run(self) -> None:
        callbacks = [diag.LockstepCallback(ROUNDING, every=EVERY)] if self.is_checked else []
        self.model.fit(self.x, self.y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=callbacks)


def measure(rounds: int) -> Iterator[Row]:
    trainings = {"checked": _Training(True), "plain": _Training(False)}
    found = interleaved(
        rounds,
        {name: TimedTask(each.run, each.prepare) for name, each in trainings.items()},
        warm_up=False,  # each compiles anew, as a training does
    )
    what = f"fit of {STEPS:,} steps, every {EVERY}th checked, over fit alone"
    yield ratio(NAME, what, found["checked"], found["plain"], None)
