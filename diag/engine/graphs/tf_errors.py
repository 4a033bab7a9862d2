"""Why TensorFlow gave up, in one line: what it says of the cause, without where it says it happened."""

from __future__ import annotations

import re

from diag.common.wording import one_line

_OF_THE_CALL = re.compile(r"\{\{function_node [^}]*\}\} ?")
_NO_XLA_KERNEL = re.compile(r"No registered '(\w+)' OpKernel for XLA")
_NO_KERNEL = re.compile(r"Could not find device for node: .*?= (\w+)\[(.*?)\]")
_WHERE = re.compile(r"\s*(\[\[\{\{node.*|\[Op:\w+\].*)$")
MOST_CHARACTERS = 200
_DTYPES = {"half": "float16", "float": "float32", "double": "float64"}
_NOISE = (
    "Graph execution error",
    "Detected at node",
    "<stack traces",
    "Detected unsupported operations",
    "File ",
    "[[",
)

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
    kept = one_line(_LOCATION.sub("", _FRAMES.sub("", text)))
    return kept or one_line(text) or type(error).__name__


def reason(error: Exception) -> str:
    """What an error says, without where TensorFlow met it: names of functions differ from run to run."""
    text = _OF_THE_CALL.sub("", str(error)).strip()
    missing = _NO_XLA_KERNEL.search(text)
    if missing:
        return f"XLA has no kernel of {missing.group(1)}"
    missing = _NO_KERNEL.search(text)
    if missing:
        return f"no kernel of {missing.group(1)} for {_types(missing.group(2))}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(_NOISE)]
    return _WHERE.sub("", lines[0])[:MOST_CHARACTERS].rstrip() if lines else type(error).__name__


def _types(attributes: str) -> str:
    """Of T=DT_HALF, padding="VALID": half.  What else an op was asked is not what it has no kernel for."""
    found = dict.fromkeys(name.lower() for name in re.findall(r"=DT_(\w+)", attributes))
    return ", ".join(_DTYPES.get(name, name) for name in found) or attributes
