"""A program of at most 20 lines that shows one failure with nothing but TensorFlow and NumPy."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from diag.common.code_text import in_docstring
from diag.common.wording import one_line
from diag.machine.environment import environment_of
from diag.machine.places import Place

MOST_LINES = 20
_DECORATORS = {"eager": [], "graph": ["@tf.function"], "xla": ["@tf.function(jit_compile=True)"]}
_PACKAGES = '("tensorflow", "keras", "numpy", "nvidia-cu", "intel-ext")'
_CHIPS = (
    "(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader; sysctl -n machdep.cpu.brand_string; "
    "grep -m1 'model name' /proc/cpuinfo) 2>&-"
)


@dataclass(frozen=True)
class Expected:
    """What a program ought to print.

    Attributes:
      lines: statements that leave an array, or a list of them, in `expected`.
      at: which elements `expected` has, flat indices over all outputs together; none: all of them.
      allowed: the absolute difference that is no error, an expression of the flat float64 array `expected`.
    """

    lines: Sequence[str]
    at: Sequence[int] = ()
    allowed: str = "0"


def reproducer(
    title: str,
    setup_lines: Sequence[str],
    expression: str,
    expected: Expected,
    place: Place,
    first_lines: Sequence[str] = (),
) -> str:
    """A program that computes something as the place does and prints it beside what is expected.

    It ends by saying whether the device is right, and with what a vendor asks for: versions, chip, driver, settings.
    A simulated fault lives in this package alone; there the program shows that the CPU is right.

    Args:
      title: one line: what is wrong.
      setup_lines: statements, `np` and `tf` at hand, that make the inputs: `x = np.ones((3, 3), "float32")`.
      expression: of those names that are tensors: `tf.linalg.matmul(x, x)`; or the lines of a function's body, the
        last a `return`.  A name that setup_lines assigns and that the expression reads is an argument of the compiled
        function, so that nothing of it is folded away; whatever else it needs it has to spell out.
      expected: what is right.
      first_lines: statements run before, `compute(tf.constant(large))` where history matters.

    Raises ValueError where more than 20 lines would be needed.
    """
    body = expression.splitlines() if "\n" in expression else [f"return {expression}"]
    names = _arguments(setup_lines, body)
    given = "".join(f"tf.constant({name}), " for name in names).removesuffix(", ")
    chosen = f"[{list(expected.at)}]" if expected.at else ""
    lines = [
        f'"""{in_docstring(one_line(title))} Place: {in_docstring(place)}."""',
        f"import importlib.metadata, os, platform, {'keras, ' if 'keras.' in expression else ''}numpy as np, "
        "tensorflow as tf",
        *_settings(place),
        *setup_lines,
        *_DECORATORS[place.execution],
        f"def compute({', '.join(names)}):",
        *(f"    {line}" for line in body),
        f'with tf.device("{place.device}"):',
        *(f"    {line}" for line in first_lines),
        f"    found = compute({given})",
        *expected.lines,
        "flat = lambda made: np.concatenate([np.array(x).astype(float).ravel() for x in tf.nest.flatten(made)])",
        f"computed, expected = flat(found){chosen}, flat([expected])",
        f"right = (computed == expected) | (abs(computed - expected) <= {expected.allowed}) "
        "| ((computed != computed) & (expected != expected))",
        f'print("{place.device} is", "right," if right.all() else f"wrong in {{(~right).sum()}} of {{right.size}},", '
        '*(f"{name} {array[~right | right.all()][:8]}" for name, array in {"computed": computed, '
        '"expected": expected}.items()))',
        f"print({{d.name: d.version for d in importlib.metadata.distributions() if d.name.startswith({_PACKAGES})}},",
        f'      platform.python_version(), platform.platform(), os.popen("{_CHIPS}").read(), '
        '"TF32", tf.config.experimental.tensor_float_32_execution_enabled())',
    ]
    if len(lines) > MOST_LINES:
        raise ValueError(f"A reproducer has at most {MOST_LINES} lines. Received: {len(lines)} for title={title!r}")
    return "\n".join(lines) + "\n"


def _arguments(setup_lines: Sequence[str], body: Sequence[str]) -> list[str]:
    """Names that the setup assigns and the body reads, in the order in which they are assigned."""
    tree = ast.parse("\n".join(["def compute():", *(f"    {line}" for line in body)]))
    read = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    assigned = [
        name.id
        for statement in ast.parse("\n".join(setup_lines)).body
        if isinstance(statement, ast.Assign)
        for target in statement.targets
        for name in ast.walk(target)
        if isinstance(name, ast.Name)
    ]
    return [name for name in dict.fromkeys(assigned) if name in read]


def _settings(place: Place) -> list[str]:
    """What was set otherwise than TensorFlow has it by itself, and changes arithmetic."""
    environment, lines = environment_of(place), []
    if not environment["tf32"]:
        lines.append("tf.config.experimental.enable_tensor_float_32_execution(False)")
    if environment["op_determinism"]:
        lines.append("tf.config.experimental.enable_op_determinism()")
    return lines
