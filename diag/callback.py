"""`diag.LockstepCallback`: now and then a step in lockstep while a Keras model trains.

Importing this loads TensorFlow and Keras.
"""

from __future__ import annotations

import inspect
import math
import time
import warnings
from typing import Any

import keras

from diag.api import DivergenceError, Report
from diag.call_request import check_request
from diag.checks import Checks, StepCheck
from diag.common.wording import one_line, type_and_message
from diag.door import refuse_other_backends
from diag.engine.lanes.lane import check_device
from diag.engine.step.batch import Batch
from diag.engine.training.fit_calls import refuse_replicas, show_next_batch
from diag.errors import UserError
from diag.guest import as_value_errors

ON_DIVERGENCE = ("warn", "stop", "raise")
EXCESS, WORST, DIVERGENCES = "lockstep/excess_max", "lockstep/worst_layer", "lockstep/divergences"


class LockstepCallback(keras.callbacks.Callback):
    """Before every N-th batch that `fit` trains on, one step on it in two places, judged against float64 truth.

    A check starts from a copy of the model's weights, optimizer slots and random seeds, on the very batch that is
    trained on next; the training itself ends bit for bit as it would have without.  The first batch is checked, then
    every N-th, through all epochs; step numbers in what is said count batches since the call of `fit`.  The step is
    traced and compiled at the first check; later ones use that again.

    Into `logs` go, for every callback that stands after this one in the list, numbers that CSVLogger, TensorBoard and
    W&B take as they are: of a batch that was checked, and at the end of an epoch of its worst check (NaN without any)

    - `lockstep/excess_max`: the largest error of a layer or op, in units of what rounding explains: 1 is the limit, and
      correct rounding counts as 0;
    - `lockstep/worst_layer`: whose error that is, as its number in `layers`, -1 for what is no layer's; TensorBoard and
      the progress bar fail on a text;
    - `lockstep/divergences`: places in the step, found so far, whose error rounding does not explain.

    Args:
        candidate: the place to check, as in the command; errors are the same for every place of the model itself.
        every: batches from one check to the next.
        on_divergence: `warn` by `warnings.warn`, once for each place in the step; `stop` also sets
            `model.stop_training`; `raise` ends `fit` with a `DivergenceError`, before that batch is trained on.
        max_seconds_per_epoch: once its checks took so long, the rest of an epoch goes without; None for no limit.
        settings: `reference` (default "CPU:0"), `units`, `execution`, `tf32`, `deterministic`, `allowances`, as the
            flags of `python -m diag.run`.

    Attributes:
        report: the `diag.Report` of all checks so far, as of the last that found something new or, once training has
            ended, the last of all; None before.
        layers: names of the model's layers, in the order of the first call of each.

    Raises:
        ValueError: it cannot be asked so; or, from `fit`, the model cannot be run in lockstep.  What fails at a later
            check than the first is a warning, and training goes on without checks.
    """

    def __init__(
        self,
        candidate: str = "GPU:0",
        every: int = 200,
        on_divergence: str = "warn",
        max_seconds_per_epoch: float | None = None,
        **settings: Any,
    ) -> None:
        super().__init__()
        _refuse(every, on_divergence, max_seconds_per_epoch)
        with as_value_errors():
            refuse_other_backends()
            self._request = check_request({"candidate": candidate, **settings})
            for place in (self._request.reference, self._request.candidate):
                assert place is not None
                check_device(place)
        self.every, self.on_divergence = every, on_divergence
        self.max_seconds = math.inf if max_seconds_per_epoch is None else max_seconds_per_epoch
        self.report: Report | None = None
        self.layers: tuple[str, ...] = ()
        self._checks: Checks | None = None
        self._reset()

    def _reset(self) -> None:
        self._batches, self._num_found = 0, 0  # of this call of fit
        self._seconds = 0.0  # of this epoch's checks
        self._last: StepCheck | None = None  # of the batch at hand
        self._worst: StepCheck | None = None  # of this epoch
        self._put_back = lambda: None
        self._is_limit_said = False

    # -- called by Keras ---------------------------------------------------------------------------

    def on_train_begin(self, logs: Any = None) -> None:
        self._put_back()  # of a fit that ended by an exception
        self._reset()
        with as_value_errors():
            refuse_replicas(self.model)
        if self.model.steps_per_execution > 1:
            raise ValueError(
                f"{self.model.name} is compiled with steps_per_execution={self.model.steps_per_execution}, and "
                "LockstepCallback sees the state of a model between steps only; compile it with steps_per_execution=1"
            )
        self._checks, self.report = Checks(self.model, self._request), None

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._last = None
        self._put_back()
        if self._checks is not None and self._batches % self.every == 0 and self._has_time():
            self._put_back = show_next_batch(self.model, self._see)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._batches += 1
        if self._last is not None and logs is not None:
            logs.update(self._numbers(self._last))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._seconds, self._worst = 0.0, None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs.update(self._numbers(self._worst))

    def on_train_end(self, logs: Any = None) -> None:
        self._put_back()
        if self._checks is not None and self._checks.numbers:
            self.report = Report(self._checks.result())
        self._checks = None  # and with it two copies of the model's state

    # -- checks ------------------------------------------------------------------------------------

    def _has_time(self) -> bool:
        if self._seconds < self.max_seconds:
            return True
        if not self._is_limit_said:
            self._is_limit_said = True
            _warn(
                f"lockstep checks took {self._seconds:.3g} s of this epoch and max_seconds_per_epoch is "
                f"{self.max_seconds:g}: the rest of it goes without, as will others that reach the limit"
            )
        return False

    def _see(self, batch: Batch) -> None:
        """Check one step, and act on what it shows."""
        assert self._checks is not None
        begun = time.monotonic()
        check = self._checked(self._checks, batch)
        if check is not None:
            self.layers, self._last = self._checks.layers, check
            self._num_found += len(check.new)
            if self._worst is None or not check.excess_max <= self._worst.excess_max:
                self._worst = check
            if check.new:
                self.report = Report(self._checks.result())
        self._seconds += time.monotonic() - begun
        if check is not None and check.new:
            self._act(check)

    def _checked(self, checks: Checks, batch: Batch) -> StepCheck | None:
        """None where the check failed, and no first one."""
        try:
            return checks.check(self._batches, batch)
        except Exception as error:
            if checks.numbers:
                said = one_line(error) if isinstance(error, UserError) else type_and_message(error)
                _warn(f"the lockstep check of step {self._batches} failed, training goes on without checks: {said}")
                self._checks = None
                return None
            if isinstance(error, UserError):
                raise ValueError(str(error)) from error
            raise

    def _act(self, check: StepCheck) -> None:
        assert self.report is not None
        said = self.report.sentence_of(check.new[0])
        if len(check.new) > 1:
            said += f" {len(check.new) - 1} more in callback.report."
        if self.on_divergence == "raise":
            raise DivergenceError(said, self.report)
        _warn(said)
        if self.on_divergence == "stop":
            self.model.stop_training = True

    def _numbers(self, check: StepCheck | None) -> dict[str, float]:
        if check is None:
            return {EXCESS: math.nan, WORST: math.nan, DIVERGENCES: float(self._num_found)}
        is_layer = check.worst_layer in self.layers
        worst = self.layers.index(check.worst_layer) if is_layer else -1
        return {EXCESS: check.excess_max, WORST: float(worst), DIVERGENCES: float(self._num_found)}


def _warn(text: str) -> None:
    """As of the line that called `fit`."""
    frame, level = inspect.currentframe(), 1
    while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("diag", "keras"):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, stacklevel=level)


def _refuse(every: Any, on_divergence: Any, max_seconds: Any) -> None:
    if isinstance(every, bool) or not isinstance(every, int) or every < 1:
        raise ValueError(f"every: expected a whole number of batches, at least 1. Received: every={every!r}")
    if on_divergence not in ON_DIVERGENCE:
        raise ValueError(
            f"on_divergence: expected one of {', '.join(ON_DIVERGENCE)}. Received: on_divergence={on_divergence!r}"
        )
    if max_seconds is not None and (not isinstance(max_seconds, (int, float)) or not max_seconds > 0):
        raise ValueError(
            "max_seconds_per_epoch: expected seconds above 0, or None for no limit. Received: "
            f"max_seconds_per_epoch={max_seconds!r}"
        )
