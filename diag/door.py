"""From a call of `fit` in a person's script to a lockstep run on what it would train.

Importing this loads TensorFlow and Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import keras
import tensorflow as tf

from diag.common.command import outcome
from diag.engine.step.batch import Batch
from diag.engine.step.layer_lines import watch_layers
from diag.engine.step.tracing import trace
from diag.engine.training.fit_calls import FitCall, give_calls_to, read_batches, train_on
from diag.engine.training.kept_batches import KeptBatches
from diag.engine.training.setup import as_called
from diag.errors import UserError
from diag.lockstep_run import choose_candidate, run_lockstep
from diag.machine.places import POLICIES, Place
from diag.machine.random_states import random_states_kept
from diag.options import DEFAULT_STEPS
from diag.request import LockstepRequest
from diag.verdict.result import RunResult


def watch(door: Door) -> None:
    """Every call of `fit` or `train_on_batch` goes to the door from now on; of layers it is kept where they are made.

    Raises:
        UserError: Keras runs on another backend.
    """
    refuse_other_backends()
    watch_layers()
    give_calls_to(door)


def refuse_other_backends() -> None:
    """Raises UserError where Keras does not run on TensorFlow."""
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UserError(f"Keras runs on the {backend} backend; expected tensorflow: set KERAS_BACKEND=tensorflow")


class Door:
    """Handles calls of `fit` and `train_on_batch`: the chosen one is run in lockstep, others as they are.

    source: whose calls they are, for the report.  show: what to do with the result, which gives the exit code.  number:
    which call is looked at, from 1.  and_train: it then trains as it would have; else `ended` is raised, made with the
    exit code.
    """

    def __init__(
        self,
        request: LockstepRequest,
        source: str,
        show: Callable[[RunResult], int],
        number: int,
        and_train: bool,
        ended: Callable[[int], BaseException],
    ) -> None:
        self.request, self.source, self.show = request, source, show
        self.number, self.and_train, self.ended = number, and_train, ended
        self.calls = 0
        self.code: int | None = None  # the command's exit code, once the call was looked at

    def __call__(self, call: FitCall) -> Any:
        self.calls += 1
        if self.calls != self.number:
            return call.go()
        if self.and_train:
            return self._and_train(call)
        self._look(lambda: lockstep_of(call, self.request, self.source))
        assert self.code is not None
        raise self.ended(self.code)

    def _look(self, run: Callable[[], RunResult]) -> None:
        """Run and show.  What is wrong is said at once: no handler of the script's must take it for its own."""
        self.code = outcome("run", lambda: self.show(run()))

    def _and_train(self, call: FitCall) -> Any:
        """The first batches are trained on by the script and kept; then the lockstep runs from where it started."""
        batches = KeptBatches()
        start: list[tuple[Any, Any]] = []

        def keep(batch: Batch) -> bool:
            if not start:
                with random_states_kept():
                    variables = trace(call.model, batch).keras_variables
                start.extend((variable.value, tf.identity(variable.value)) for variable in variables)
            return batches.add(batch, self.request.steps or DEFAULT_STEPS)

        def then() -> None:
            trained = [(variable, tf.identity(variable)) for variable, _ in start]
            _give(start)
            self._look(lambda: _run(call, batches, self.request, self.source))
            _give(trained)

        return train_on(call, keep, then)


def lockstep_of(call: FitCall, request: LockstepRequest, source: str) -> RunResult:
    """A lockstep run on what a call of `fit` would train; model, process and random streams are as they were after it.

    Raises:
        UserError: it cannot be run so.
    """
    batches = KeptBatches()
    with random_states_kept():
        read_batches(call, lambda batch: batches.add(batch, request.steps or DEFAULT_STEPS))
        return _run(call, batches, request, source)


def _run(call: FitCall, batches: KeptBatches, request: LockstepRequest, source: str) -> RunResult:
    wanted, found = request.steps or DEFAULT_STEPS, len(batches)
    notes: tuple[str, ...] = ()
    if not found:
        raise UserError(f"{source}: {call.method} was given no batch; expected at least one")
    if found < wanted:
        reason = (
            f"{batches.size} of batches are as much as is kept" if batches.is_full else f"{call.method} has no more"
        )
        notes = (f"{found} steps instead of {wanted}: {reason}",)
    with random_states_kept():
        request = as_the_model_runs(replace(request, steps=found), call.model)
        places = (request.reference, request.candidate)
        is_xla = any(place is not None and place.execution == "xla" for place in places)
        return run_lockstep(request, as_called(call, batches, source, notes, is_xla))


def as_the_model_runs(request: LockstepRequest, model: keras.Model) -> LockstepRequest:
    """The request with both places in the model's dtype policy, and those left open in its way of execution.

    A simulated place is left at graph: a fault cannot be planted in what XLA compiles.
    """
    policy = model.dtype_policy.name
    if model.run_eagerly or tf.config.functions_run_eagerly():
        execution = "eager"
    else:
        execution = "xla" if model.jit_compile else "graph"

    def place(lane: str, named: Place) -> Place:
        if lane in request.open_places and not (named.is_simulated and execution == "xla"):
            named = replace(named, execution=execution)
        return replace(named, policy=policy) if policy in POLICIES and policy != "float32" else named

    reference = place("reference", request.reference)
    candidate = place("candidate", choose_candidate(request)[0])
    if request.candidate is None:  # chosen again, and said why, by these
        return replace(request, reference=reference, execution=candidate.execution, policy=candidate.policy)
    return replace(request, reference=reference, candidate=candidate)


def _give(values: list[tuple[tf.Variable, tf.Tensor]]) -> None:
    for variable, value in values:
        variable.assign(value)
