"""Where a layer was called or made: Keras runs a Functional or Sequential model later, from lines of its own.

Private names used: `keras.layers.Layer.__new__` and `__call__`, which are replaced while it is watched.
tests/engine/step/test_sources.py fails when one of them changes its meaning.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import keras

from diag.common.source_lines import SourceLine, is_their_own, line_of_frame, line_on_stack

_lines: WeakKeyDictionary[Any, SourceLine] = WeakKeyDictionary()


def line_of_layer(layer: Any) -> SourceLine | None:
    """The line that called it first, while a model was put together; else the line that made it."""
    return _lines.get(layer)


def watch_layers() -> tuple[Any, Any]:
    """From now on it is kept of each layer which line made it and which called it; gives the replaced methods."""
    kind = keras.layers.Layer
    new, call = kind.__new__, kind.__call__
    called: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()

    def new_with_line(cls: type, *arguments: Any, **others: Any) -> Any:
        layer = new(cls, *arguments, **others)
        if line := line_on_stack(sys._getframe(1)):
            _lines[layer] = line
        return layer

    def call_with_line(layer: Any, *arguments: Any, **others: Any) -> Any:
        caller = sys._getframe(1)
        if layer not in called and is_their_own(caller.f_code.co_filename):
            called[layer] = True
            _lines[layer] = line_of_frame(caller)
        return call(layer, *arguments, **others)

    kind.__new__, kind.__call__ = new_with_line, call_with_line
    return new, call


@contextlib.contextmanager
def layers_watched() -> Iterator[None]:
    """The same of layers that are made and called inside."""
    new, call = watch_layers()
    try:
        yield
    finally:
        keras.layers.Layer.__new__, keras.layers.Layer.__call__ = new, call
