"""What a model takes and gives, as far as it says so before it has seen any data."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diag.engine.step.batch import leaves
from diag.errors import UserError


@dataclass(frozen=True)
class InputSpec:
    """One input: its shape without the batch dimension, None where any size will do."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    num_tokens: int | None = None  # rows of the Embedding that reads it, where one does
    draw_below: int | None = None  # integers below this are safe to feed it


@dataclass(frozen=True)
class OutputSpec:
    """One output: its shape without the batch dimension, what computes it last, the user's loss for it."""

    name: str
    shape: tuple[int | None, ...]
    activation: str | None = None  # "softmax", "sigmoid", "linear", ...; None: not known
    loss: str | None = None  # such as "sparse_categorical_crossentropy"; None: not compiled
    ignored_class: int | None = None  # a label that the loss leaves out, often -1

    @property
    def num_classes(self) -> int | None:
        """How many classes an integer label can name: 2 for one sigmoid unit; None if it names none."""
        units = self.shape[-1] if self.shape else None
        if units is None or units > 1:
            return units
        return 2 if self.activation == "sigmoid" or self.loss == "binary_crossentropy" else None


@dataclass(frozen=True)
class Signature:
    """A built model's inputs and outputs; `*_form` is "single", "sequence", "dict" or "nested"."""

    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    input_form: str = "single"
    output_form: str = "single"


def signature_of(model: Any) -> Signature | None:
    """The signature of a keras.Model; None for one that is not built, or is subclassed."""
    if not (getattr(model, "inputs", None) and getattr(model, "outputs", None)):
        return None
    input_struct = getattr(model, "input", model.inputs[0])  # a Sequential has `inputs` only
    output_struct = getattr(model, "output", model.outputs[0])
    producers = _producers(model)
    output_names = _names(output_struct, model.outputs, [operation.name for operation in producers])
    outputs = tuple(
        OutputSpec(name, tuple(tensor.shape[1:]), _activation(producer), *_loss(model, index, name))
        for index, (name, tensor, producer) in enumerate(zip(output_names, model.outputs, producers, strict=True))
    )
    input_names = _names(input_struct, model.inputs, [tensor.name for tensor in model.inputs])
    inputs = tuple(
        InputSpec(name, tuple(tensor.shape[1:]), tensor.dtype, *_tokens(model, tensor))
        for name, tensor in zip(input_names, model.inputs, strict=True)
    )
    return Signature(inputs, outputs, _form(input_struct), _form(output_struct))


def pair(structure: Any, specs: tuple[Any, ...], name: str) -> list[tuple[str, Any, Any]]:
    """Each array with its path and the spec it belongs to: by name in a dict, else by position.

    Raises:
        UserError: another number of arrays than the model has, or names that it does not have.
    """
    wanted = [spec.name for spec in specs]
    if isinstance(structure, dict) and not any(isinstance(v, (dict, list, tuple)) for v in structure.values()):
        if set(structure) != set(wanted):
            given = ", ".join(map(str, structure))
            raise UserError(f"the data's {name} are named {given}; the model's are named {', '.join(wanted)}")
        return [(f"{name}/{spec.name}", structure[spec.name], spec) for spec in specs]
    found = list(leaves(structure, name))
    if len(found) != len(specs):
        raise UserError(
            f"the data has {len(found)} {name}; the model has {len(specs)} ({', '.join(wanted)}); "
            "give one array for each, as a tuple or as a dict by name"
        )
    return [(path, value, spec) for (path, value), spec in zip(found, specs, strict=True)]


def loss_name(loss: Any) -> str:
    """A loss as Keras names it in full: "MSE", a function or a Loss object -> "mean_squared_error"."""
    import keras

    if isinstance(loss, str):
        if loss.lower() in {"crossentropy", "ce"}:  # Keras chooses at the first batch
            return "crossentropy"
        loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(loss).__name__).lower()
    return getattr(loss, "__name__", type(loss).__name__)


def _form(struct: Any) -> str:
    if isinstance(struct, (dict, list, tuple)):
        values = struct.values() if isinstance(struct, dict) else struct
        if any(isinstance(value, (dict, list, tuple)) for value in values):
            return "nested"
        return "dict" if isinstance(struct, dict) else "sequence"
    return "single"


def _names(struct: Any, flat: list[Any], default: list[str]) -> list[str]:
    """A name for each flat tensor: its key where the model's own structure is a dict."""
    if _form(struct) != "dict":
        return default
    keys = {id(tensor): key for key, tensor in struct.items()}
    return [keys[id(tensor)] for tensor in flat]


def _producers(model: Any) -> list[Any]:
    """The layer or operation that computes each output."""
    if not hasattr(model, "output_names"):  # a Sequential
        return [model.layers[-1]]
    by_name = {operation.name: operation for operation in model.operations}
    return [by_name[name] for name in model.output_names]


def _activation(producer: Any) -> str | None:
    """The activation that a layer ends with; nested models and wrappers are looked into."""
    if hasattr(producer, "layers"):
        if not getattr(producer, "outputs", None) or len(producer.outputs) != 1:
            return None
        return _activation(_producers(producer)[0])
    if type(producer).__name__ == "TimeDistributed":
        return _activation(producer.layer)
    if type(producer).__name__ in {"Softmax", "Sigmoid"}:  # a layer, or keras.ops in a functional model
        return type(producer).__name__.lower()
    return getattr(getattr(producer, "activation", None), "__name__", "linear")


def _loss(model: Any, index: int, name: str) -> tuple[str | None, int | None]:
    """The user's loss for one output, and the label it ignores."""
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if isinstance(loss, dict):
        loss = loss.get(name)
    elif isinstance(loss, (list, tuple)):
        loss = loss[index] if index < len(loss) else None
    return (None, None) if loss is None else (loss_name(loss), getattr(loss, "ignore_class", None))


def _tokens(model: Any, tensor: Any) -> tuple[int | None, int | None]:
    """Rows of the Embedding that reads an input directly, and a bound that is safe to draw integers below.

    A layer of the user's own hides which Embedding an integer input goes to; the smallest table of
    the model bounds it safely, though its rows may be positions and not tokens.
    """
    embeddings = [layer for layer in all_layers(model) if type(layer).__name__ == "Embedding"]
    rows = min((layer.input_dim for layer in embeddings if _reads(layer, tensor)), default=None)
    if rows is not None or "int" not in tensor.dtype:
        return rows, rows
    return None, min((layer.input_dim for layer in embeddings), default=None)


def _reads(layer: Any, tensor: Any) -> bool:
    return getattr(layer, "input", None) is tensor


def all_layers(layer: Any) -> Iterator[Any]:
    """Every layer inside a layer, whether it keeps them in `layers` or as attributes."""
    import keras

    seen: set[int] = set()
    pending = [layer]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        inner = [*getattr(current, "layers", ()), *vars(current).values()]
        pending += [value for value in inner if isinstance(value, keras.layers.Layer)]
