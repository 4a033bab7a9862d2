"""One run of a study: a lane trains for some epochs, each kept once it is done."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import tensorflow as tf

from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.runs.twins import perturbed
from diag.engine.step.tracing import flat_batch
from diag.engine.training.setup import described
from diag.machine import settings as process
from diag.study.evaluation import Evaluation
from diag.study.kept_epochs import KeptEpochs
from diag.study.run_request import METRICS, RunRequest, place_in
from diag.study.trainables import Ready, ready

EVALUATED = 4  # batches of training at once, which fit in memory with all that their gradients take


def trained(request: RunRequest) -> dict[str, Any]:
    """Train at the place, from where the run was; gives its curves and what was trained, as JSON takes it.

    Raises UserError for what cannot be trained, or cannot be had at the place.
    """
    kept = KeptEpochs(request.path, request.epochs, request.state_bytes)
    with kept.claimed(), process.tf32(request.tf32), process.op_determinism(request.deterministic):
        made = ready(request.trainable, request.policy, request.seed)
        run = EpochRun(request, made)
        latest = kept.latest()
        if latest is not None:
            run.take_up(*latest)
        while run.epoch < request.epochs:
            run.train()
            kept.keep(run.epoch, run.curves, run.lane.carried())
        return {
            "curves": {name: values[: request.epochs] for name, values in run.curves.items()},
            "model": described(made.model, type(made.model.optimizer).__name__),
            "num_training": made.training.samples().num_samples,
            "num_validation": made.validation.num_samples,
            "environment": run.lane.environment(),
        }


class EpochRun:
    """A lane, and its curves so far: by name one number an epoch."""

    def __init__(self, request: RunRequest, made: Ready) -> None:
        self.request, self.made, self.epoch = request, made, 0
        self.curves: dict[str, list[float]] = {name: [] for name in (*METRICS, "seconds")}
        program = made.program
        self.lane = Lane.at("study", place_in(request.place, request.policy), program, request.seed)
        if request.twin:
            generator = np.random.default_rng((request.seed, request.twin))
            self.lane.load(perturbed(program, made.initial, generator))
        self._steps: dict[int, CompiledSteps] = {}
        self._evaluation = Evaluation(made.model, program, self.lane)

    def take_up(self, epoch: int, curves: dict[str, list[float]], state: dict[str, Any]) -> None:
        """Go on after so many epochs."""
        self.epoch, self.curves = epoch, {name: list(map(float, values)) for name, values in curves.items()}
        self.lane.take_up(state)

    def train(self) -> None:
        """One more epoch: its steps, whose mean loss is taken as `fit` takes it, then both evaluations.

        The accuracy of training is taken without dropout, on as many samples as there are for validation.
        """
        size = EVALUATED * self.request.trainable.batch_size
        begun = time.perf_counter()
        loss = self._train()
        seconds = time.perf_counter() - begun
        validation, training = self.made.validation, self.made.training
        held_out = self._evaluation.of(validation, size)
        seen = self._evaluation.of(training.first(validation.num_samples), size)
        for name, value in zip(self.curves, (loss, seen[1], *held_out, seconds), strict=True):
            self.curves[name].append(value)
        self.epoch += 1

    def _train(self) -> float:
        """The steps of an epoch; gives their mean loss over samples."""
        made, losses, sizes = self.made, [], []
        first = self.epoch * made.steps_per_epoch
        for step in range(first, first + made.steps_per_epoch):
            batch = made.training[step]
            program = made.programs(batch)
            steps = self._steps.setdefault(id(program), CompiledSteps(self.lane, program))
            self.lane.enter_step(step)
            (loss,) = steps.run([tf.constant(value) for value in flat_batch(batch)], ()).values()
            losses.append(loss)
            sizes.append(batch.num_samples)
        if self.lane.simulation is not None:
            self.lane.simulation.check()
        return float(np.average([float(loss) for loss in losses], weights=sizes))
