"""Single steps of a training that goes on, in lockstep from copies of what the model has at that moment.

Importing this loads TensorFlow and Keras.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

import keras

from diag import allowance_file
from diag.door import as_the_model_runs
from diag.engine.lanes.lane import check_device
from diag.engine.runs.findings import telling_excess
from diag.engine.runs.finished_step import FinishedStep
from diag.engine.runs.run import LockstepRun
from diag.engine.runs.settings import Settings
from diag.engine.runs.updates import adam_settings_of
from diag.engine.step.batch import Batch
from diag.engine.step.keras_steps import has_own_step
from diag.engine.step.tracing import Programs
from diag.engine.training.given_texts import without_texts
from diag.engine.training.models import own_loss
from diag.engine.training.setup import described
from diag.machine import settings as process
from diag.machine.random_states import op_seeds_kept
from diag.numerics.allowances import allowances_kept
from diag.request import LockstepRequest
from diag.verdict.findings import Divergence, Verdict
from diag.verdict.result import RunResult, as_notes


@dataclass(frozen=True)
class StepCheck:
    """What one step showed.

    excess_max: the largest error of a unit or op, in what rounding explains; correct rounding counts as 0, and where
    nothing was judged it is NaN.
    worst_layer: whose that is; "" for what is no layer's.  new: what no check before had found, in order of execution.
    """

    number: int
    excess_max: float
    worst_layer: str
    new: tuple[Divergence, ...]


class Checks:
    """Steps of one training, traced and compiled at the first of them; each starts from the model's own state.

    What they find adds up as in a run of lockstep, so that a fault is looked at closely once.
    """

    def __init__(self, model: keras.Model, request: LockstepRequest) -> None:
        self.model, self.request = model, request
        self.numbers: list[int] = []
        self.layers: tuple[str, ...] = ()  # in the order of the first call of each
        self._batch: Batch | None = None

    def __getitem__(self, number: int) -> Batch:
        """The batch at hand, as those who ask for batches by their numbers want it."""
        assert self._batch is not None
        return self._batch

    def check(self, number: int, batch: Batch) -> StepCheck:
        """A step on this batch; nothing of the model is changed, nor of the process.

        number: of the batch in the training.

        Raises:
            UserError: it cannot be run so.
        """
        self._batch = batch
        with self._as_asked(), op_seeds_kept():
            run, given = self._run, self._given
            known = {divergence.where.location for divergence in run.findings.divergences}
            run.reference.load(run.program.initial_state())
            step = run.step(number, given[number])
        self.numbers.append(number)
        new = tuple(each for each in run.findings.divergences if each.where.location not in known)
        return _check_of(number, step, new)

    def result(self) -> RunResult:
        """Of all checks so far, as of a run with these steps alone."""
        notes = (*self._texts, f"steps {', '.join(map(str, self.numbers))} of a training, each from its own state")
        with self._as_asked(), op_seeds_kept():
            result = self._run.result(is_final=False)
        return replace(
            result,
            steps=len(self.numbers),
            numbers=tuple(self.numbers),
            notes=(*result.notes, *as_notes(notes)),
            model=described(self.model, self._trained_by),
            data="the batches of fit",
        )

    @contextmanager
    def _as_asked(self) -> Iterator[None]:
        with process.tf32(self.request.tf32), process.op_determinism(self.request.deterministic), allowances_kept():
            allowance_file.put_in_force(self.request.allowances_file, self.request.allowances)
            yield

    @cached_property
    def _run(self) -> LockstepRun:
        request, model = as_the_model_runs(self.request, self.model), self.model
        assert request.candidate is not None
        for place in (request.reference, request.candidate):
            check_device(place)
        is_xla = any(place.execution == "xla" for place in (request.reference, request.candidate))
        programs, self._given, self._texts = without_texts(Programs(model, is_xla), self)
        run = LockstepRun(programs, self._given, self._settings(request))
        self.layers = run.program.layers
        return run

    def _settings(self, request: LockstepRequest) -> Settings:
        """Every step with all its units: it stands for many that are not looked at."""
        assert request.candidate is not None
        return Settings(
            request.reference,
            request.candidate,
            1,
            request.seed,
            units=request.units,
            check_every=1,
            adam=adam_settings_of(self.model),
        )

    @property
    def _trained_by(self) -> str:
        assert self._batch is not None
        loss = own_loss(self.model, self._batch.targets) or "losses of the model's own"
        return loss if has_own_step(self.model) else f"{loss}, {type(self.model.optimizer).__name__}"


def _check_of(number: int, step: FinishedStep, new: Sequence[Divergence]) -> StepCheck:
    judged = [each for each in (*step.observations, *step.ops) if each.verdict is not Verdict.UNJUDGED]
    worst = max(judged, key=telling_excess, default=None)
    if worst is None:
        return StepCheck(number, float("nan"), "", tuple(new))
    return StepCheck(number, telling_excess(worst), worst.where.layer or "", tuple(new))
