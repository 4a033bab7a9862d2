"""Why TensorFlow gave up, in one line: what it says of the cause, without where it says it happened."""

from __future__ import annotations

import re

# tensorflow/python/eager/polymorphic_function/atomic_function.py, InterpolateRuntimeError: this line, and for each node
# "Detected at node" with its frames, which are indented, stand before the message of the op that failed.
PREAMBLE = "Graph execution error:"
_NODES = re.compile(r"Detected at node .*\n(?:(?:[ \t].*|<stack traces unavailable>|Node: .*|[ \t]*)\n)*")
# XLA's tf2xla puts the frames of the op between what it could not compile and how to see more of it.
_FRAMES = re.compile(r"(?:The op is created at:|Stack trace for op definition:)[ \t]*(?:\n\s*File .*(?:\n {4,}.*)?)*")
_LOCATION = re.compile(r"\[\[\{\{.*?\}\}.*?\]\]|\{\{(?:function_)?node .*?\}\}|\[Op:[^\]]*\](?: name:)?")


def reason_of(error: BaseException) -> str:
    """One line, whole: the cause of an `OpError` or of any other exception; its type where it says nothing."""
    text = str(getattr(error, "message", None) or error)
    if text.lstrip().startswith(PREAMBLE):
        text = _NODES.sub("", text.lstrip().removeprefix(PREAMBLE) + "\n")
    kept = " ".join(_LOCATION.sub("", _FRAMES.sub("", text)).split())
    return kept or " ".join(text.split()) or type(error).__name__
