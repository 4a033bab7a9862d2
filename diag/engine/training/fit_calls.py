"""A call of `fit`, `train_on_batch` or `predict`: its model, and the batches that Keras gives it.

The one door to Keras's trainer.  Batches come from Keras itself: the real `fit` is run with a train function of ours,
so that every form of data is its own to read, class weights and splits included.  Names used: `keras.Model.fit`,
`train_on_batch`, `make_train_function` and `train_function`, which Keras documents for overriding, `predict` and the
same two of it, and that an absent part of a batch is a `tf.experimental.Optional`; tests/engine/test_canary.py fails
when one changes its meaning.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from diag.common.modes import PREDICT, TRAIN
from diag.common.wording import type_and_message
from diag.engine.step.arrays import array_of
from diag.engine.step.batch import Batch
from diag.errors import UserError

METHODS = ("fit", "train_on_batch")
NEVER = 1 << 30  # epochs between validations
Keep = Callable[[Batch], bool]
"""Takes a batch and says whether more are wanted."""


@dataclass(frozen=True)
class FitCall:
    """One call: `original` is Keras's method, `arguments` what it was given by name."""

    model: keras.Model
    method: str
    original: Callable[..., Any]
    arguments: dict[str, Any]

    def go(self) -> Any:
        """What was called, as it was called."""
        return self.original(self.model, **self.arguments)

    @property
    def mode(self) -> str:
        return PREDICT if self.method == PREDICT else TRAIN

    @property
    def epochs(self) -> int:
        return int(self.arguments.get("epochs", 1))


def call_of_fit(model: keras.Model, data: Any, arguments: Mapping[str, Any]) -> FitCall:
    """A call that nobody made: `model.fit(data)`, or with x, y and sample_weight where the data are a tuple of them.

    Raises:
        UserError: it is no compiled Keras model.
    """
    _refuse_other_than_models(model)
    if not model.compiled:
        raise UserError(f"{model.name} is not compiled; call its compile() with an optimizer and a loss before")
    parts = data if isinstance(data, tuple) else (data,)
    return _call(model, "fit", {**dict(zip(("x", "y", "sample_weight"), parts, strict=False)), **arguments})


def call_of_predict(model: keras.Model, data: Any, arguments: Mapping[str, Any]) -> FitCall:
    """The same of `model.predict(data)`, or of the first of a tuple of them, which are then x, y and sample_weight.

    Raises:
        UserError: it is no Keras model.
    """
    _refuse_other_than_models(model)
    return _call(model, PREDICT, {"x": data[0] if isinstance(data, tuple) else data, **arguments})


def _refuse_other_than_models(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise UserError(f"a {type(model).__name__} was given; expected a Keras model")


def _call(model: keras.Model, method: str, arguments: Mapping[str, Any]) -> FitCall:
    original = getattr(keras.Model, method)
    try:
        bound = inspect.signature(original).bind(model, **arguments)
    except TypeError as error:
        raise UserError(f"{method} does not take this: {error}") from error
    return FitCall(model, method, original, {name: bound.arguments[name] for name in arguments})


def give_calls_to(handle: Callable[[FitCall], Any]) -> None:
    """From now on, until `take_back`, such calls go to `handle`; those that it makes itself do not."""
    take_back()
    for method in METHODS:
        setattr(keras.Model, method, _handed_on(method, getattr(keras.Model, method), handle))


def take_back() -> None:
    """Keras's own methods again."""
    for method in METHODS:
        if method in vars(keras.Model):  # else it is inherited, as Keras has it
            delattr(keras.Model, method)


def _handed_on(method: str, original: Callable[..., Any], handle: Callable[[FitCall], Any]) -> Callable[..., Any]:
    signature = inspect.signature(original)
    inside = False

    @functools.wraps(original)
    def call(self: keras.Model, *arguments: Any, **named: Any) -> Any:
        nonlocal inside
        if inside:
            return original(self, *arguments, **named)
        bound = signature.bind(self, *arguments, **named).arguments
        given = {name: value for name, value in bound.items() if name != next(iter(signature.parameters))}
        inside = True
        try:
            return handle(FitCall(self, method, original, given))
        finally:
            inside = False

    return call


class _Enough(Exception):
    pass


class _UntilEpoch(keras.callbacks.Callback):
    """Ends `fit` after its last epoch, before it does what is done at the end of training."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 >= self.epochs:
            raise _Enough


def read_batches(call: FitCall, keep: Keep) -> None:
    """Give `keep` the batches that the call would take, in order, until it wants no more; nothing is trained.

    The model is built if it was not, as Keras does it.  Callbacks and validation are left out.

    Raises:
        UserError: more than one device trains it, or Keras refuses the data, or reading them fails.
    """
    model = call.model
    refuse_replicas(model)

    def take(batches: Iterable[Any]) -> dict[str, Any]:
        for data in _next(iter(batches), model.steps_per_execution):
            if not keep(batch_of(data)):
                raise _Enough
        return {}

    arguments = call.arguments
    if call.method == "fit":
        ours = {"callbacks": [_UntilEpoch(call.epochs)], "verbose": 0, "validation_data": None}
        arguments = {**arguments, **ours, "validation_freq": NEVER}
    if call.mode == PREDICT:
        arguments = {**arguments, "verbose": 0}
    model.get_metrics_result = dict  # at the end of an epoch; they have seen nothing
    try:
        with _step_function(model, lambda: take, call.mode), suppress(_Enough):
            call.original(model, **arguments)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{call.method} itself would not {call.mode}: {type_and_message(error)}") from error
    finally:
        del model.get_metrics_result


def train_on(call: FitCall, keep: Keep, then: Callable[[], None]) -> Any:
    """The call as it was made, training and all; `keep` sees each batch before it is trained on.

    then: called once, in the middle of training, when `keep` wants no more, or at its end.
    """
    model = call.model
    refuse_replicas(model)
    wanted = True

    def make() -> Callable[[Iterator[Any]], Any]:
        type(model).make_train_function(model)
        train = model.train_function

        def step(iterator: Iterator[Any]) -> Any:
            nonlocal wanted
            if not wanted:
                return train(iterator)
            data = _next(iterator, model.steps_per_execution)
            for each in data:
                if wanted and not keep(batch_of(each)):
                    wanted = False
            logs = train(iter(data))
            if not wanted:
                then()
            return logs

        return step

    with _step_function(model, make, TRAIN):
        result = call.go()
    if wanted:
        then()
    return result


def show_next_batch(model: keras.Model, see: Callable[[Batch], None]) -> Callable[[], None]:
    """The next batch that `fit` takes is given to `see`, and then trained on by what Keras has compiled, as ever.

    What this gives ends the waiting, if the batch has not come.  Only for one step an execution.
    """
    own = model.train_function

    def train(iterator: tf.data.Iterator) -> Any:
        put_back()
        data = next(iterator)
        see(batch_of(keras.tree.map_structure(_none_if_absent, data)))
        return own(_once_more(iterator, data))

    def put_back() -> None:
        if model.train_function is train:
            model.train_function = own

    model.train_function = train
    return put_back


def _once_more(iterator: tf.data.Iterator, data: Any) -> tf.data.Iterator:
    """An iterator of this alone, of the other's own type: for another Keras would trace its step anew."""
    alone = iter(tf.data.Dataset.from_tensors(data))
    return tf.nest.pack_sequence_as(iterator, tf.nest.flatten(alone, expand_composites=True), expand_composites=True)


def refuse_replicas(model: keras.Model) -> None:
    """Raises UserError for a model that more than one device trains."""
    replicas = model.distribute_strategy.num_replicas_in_sync
    if replicas > 1:
        raise UserError(
            f"{model.name} trains on {replicas} devices at once (tf.distribute); lockstep follows one: run the script "
            "without its strategy"
        )


@contextmanager
def _step_function(model: keras.Model, make: Callable[[], Callable[..., Any]], mode: str) -> Iterator[None]:
    """The model trains, or predicts, by what `make` makes when Keras asks for it; its own is put back afterwards."""
    maker, name = f"make_{mode}_function", f"{mode}_function"
    own = getattr(model, name)

    def make_function(force: bool = False) -> None:
        setattr(model, name, make())

    setattr(model, maker, make_function)
    try:
        yield
    finally:
        delattr(model, maker)
        setattr(model, name, own)
        model.stop_training = False


def _next(iterator: Iterator[Any], most: int) -> list[Any]:
    """Up to `most` batches; raises StopIteration if there is none."""
    found: list[Any] = []
    for _ in range(most):
        try:
            data = next(iterator)
        except StopIteration:
            if found:
                return found
            raise
        found.append(keras.tree.map_structure(_none_if_absent, data))
    return found


def _none_if_absent(leaf: Any) -> Any:
    """Of generators and PyDatasets Keras gives an Optional where a part of a batch is None."""
    return None if isinstance(leaf, tf.experimental.Optional) else leaf


def batch_of(data: Any) -> Batch:
    """What Keras gives a `train_step`, with NumPy arrays."""
    arrays = keras.tree.map_structure(lambda leaf: None if leaf is None else array_of(leaf), data)
    if isinstance(arrays, (tuple, list)) and 1 <= len(arrays) <= 3:
        inputs, targets, sample_weight = keras.utils.unpack_x_y_sample_weight(arrays)
        return Batch(inputs, targets, sample_weight, len(arrays))
    return Batch(arrays, num_parts=0)
