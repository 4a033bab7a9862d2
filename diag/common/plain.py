"""Python values as plain data and back: a JSON document with its arrays beside it.  Nothing is ever executed.

Besides the containers of Python and arrays of NumPy only the classes that the reader names are made, so that a file
from a stranger is data, which a pickle would not be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import Any

import ml_dtypes  # noqa: F401  makes bfloat16 and its like known by name
import numpy as np

Arrays = dict[str, np.ndarray]
LONG = 64  # numbers of a list that are kept as an array: curves have one a step


class NotPlain(Exception):
    """A value that no plain data say."""


class NotEncoded(ValueError):
    """A document that `PlainData.encode` did not make."""


class PlainData:
    """Encodes and decodes; `classes` are the data classes and enumerations that may occur."""

    def __init__(self, classes: Iterable[type]) -> None:
        self._classes = {each.__name__: each for each in classes}

    def encode(self, value: Any) -> tuple[Any, Arrays]:
        """A JSON document, and the arrays that it names; both may be changed without changing `value`.

        Raises:
          NotPlain: part of it is of another class.
        """
        arrays: Arrays = {}
        return self._encode(value, arrays), arrays

    def decode(self, document: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        """The value that was encoded, every number with its bits and of its type.

        Raises:
          NotEncoded: it is no document of `encode`.
        """
        try:
            return self._decode(document, arrays)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise NotEncoded(f"{type(error).__name__}: {error}") from error

    def _encode(self, value: Any, arrays: Arrays) -> Any:
        if isinstance(value, Enum):
            return {"member": [self._known(value), value.name]}
        if isinstance(value, np.generic):
            return {"scalar": _kept(np.asarray(value), arrays)}
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if isinstance(value, np.ndarray):
            return {"array": _kept(value, arrays)}
        if dataclasses.is_dataclass(value):
            values = {each.name: self._encode(getattr(value, each.name), arrays) for each in dataclasses.fields(value)}
            return {"instance": [self._known(value), values]}
        return self._encode_container(value, arrays)

    def _encode_container(self, value: Any, arrays: Arrays) -> Any:
        if isinstance(value, list) and len(value) >= LONG and all(type(each) is float for each in value):
            return {"floats": _kept(np.array(value, np.float64), arrays)}
        if isinstance(value, list):
            return [self._encode(each, arrays) for each in value]
        if isinstance(value, dict):
            return {"dict": [[self._encode(key, arrays), self._encode(each, arrays)] for key, each in value.items()]}
        for name, kind in (("tuple", tuple), ("set", set), ("frozenset", frozenset)):
            if type(value) is kind:
                return {name: [self._encode(each, arrays) for each in value]}
        raise NotPlain(f"a {type(value).__name__} is neither number, text, array nor a container of these")

    def _known(self, value: Any) -> str:
        name = type(value).__name__
        if self._classes.get(name) is not type(value):
            raise NotPlain(f"a {name} is neither number, text, array nor a container of these")
        return name

    def _decode(self, document: Any, arrays: Mapping[str, np.ndarray]) -> Any:
        if isinstance(document, list):
            return [self._decode(each, arrays) for each in document]
        if not isinstance(document, dict):
            return document
        ((kind, content),) = document.items()
        if kind == "array":
            return _restored(content, arrays)
        if kind == "scalar":
            return _restored(content, arrays)[()]
        if kind == "floats":
            return _restored(content, arrays).tolist()
        if kind == "dict":
            return {self._decode(key, arrays): self._decode(each, arrays) for key, each in content}
        if kind == "member":
            return self._classes[content[0]][content[1]]  # type: ignore[index]
        if kind == "instance":
            values = {name: self._decode(each, arrays) for name, each in content[1].items()}
            return self._classes[content[0]](**values)
        return {"tuple": tuple, "set": set, "frozenset": frozenset}[kind](self._decode(content, arrays))


def _kept(array: np.ndarray, arrays: Arrays) -> list[str]:
    """Its name among the arrays, and its dtype, which a file may not know."""
    if array.dtype.kind not in "biufcUV" or array.dtype.names is not None:
        raise NotPlain(f"an array of {array.dtype} holds neither numbers nor text")
    name = f"array_{len(arrays)}"
    is_known = array.dtype.kind in "biufcU"
    arrays[name] = np.array(array if is_known else array.view(f"u{array.dtype.itemsize}"))
    return [name, array.dtype.str if is_known else array.dtype.name]


def _restored(content: list[str], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    name, dtype = content
    array = np.array(arrays[name])
    return array if array.dtype == np.dtype(dtype) else array.view(np.dtype(dtype))
