"""Programs for a vendor: they run where they are written, and say what they found."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from diag.machine.places import parse_place
from probes.frame.reproducer import MOST_LINES, Expected, reproducer

SETUP = ['x = np.arange(6).reshape(2, 3).astype("float32")', 'y = np.full((3, 1), 2, "float32")']
PRODUCT = "tf.linalg.matmul(x, y)"  # (0 + 1 + 2) * 2 and (3 + 4 + 5) * 2


def made(place: str = "CPU:0/eager", expected: Sequence[str] = ("expected = [[6], [24]]",), **options: Any) -> str:
    expression, first_lines = options.pop("expression", PRODUCT), options.pop("first_lines", ())
    right = Expected(expected, **options)
    return reproducer("MatMul of 2 x 3", SETUP, expression, right, parse_place(place), first_lines)


def output_of(program: str, folder: Path) -> str:
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=120, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_healthy_op_is_said_to_be_right_with_what_a_vendor_asks_for(tmp_path: Path) -> None:
    import tensorflow as tf

    said = output_of(made("CPU:0/graph"), tmp_path)
    assert "CPU:0 is right, computed [ 6. 24.] expected [ 6. 24.]" in said
    assert f"'tensorflow': '{tf.__version__}'" in said and "'keras'" in said and "TF32 True" in said


def test_what_differs_is_printed_beside_what_is_expected(tmp_path: Path) -> None:
    said = output_of(made("sim:tf32/xla", ["expected = [6.25, 24.5]"], at=[0, 1], allowed="0.25"), tmp_path)
    assert "CPU:0 is wrong in 1 of 2, computed [24.] expected [24.5]" in said


def test_history_and_the_lines_of_a_body(tmp_path: Path) -> None:
    body = f"with tf.GradientTape() as tape:\n    tape.watch(x)\n    z = {PRODUCT}\nreturn tape.gradient(z, x)"
    program = made(expected=["expected = np.full((2, 3), 2)"], expression=body,
                   first_lines=["compute(tf.zeros((5, 3)), tf.constant(y))"])  # fmt: skip
    assert "CPU:0 is right" in output_of(program, tmp_path)


@pytest.mark.parametrize(
    ("place", "decorator"),
    [("GPU:0/eager", []), ("GPU:0/graph", ["tf.function"]), ("CPU:0/xla", ["tf.function(jit_compile=True)"])],
)
def test_it_runs_as_the_place_does(place: str, decorator: list[str]) -> None:
    program = made(place)
    (function,) = (node for node in ast.parse(program).body if isinstance(node, ast.FunctionDef))
    assert [ast.unparse(each) for each in function.decorator_list] == decorator
    assert [argument.arg for argument in function.args.args] == ["x", "y"]  # or they would be folded away
    assert f'tf.device("{place.partition("/")[0]}")' in program
    assert "probes" not in program and len(program.splitlines()) <= MOST_LINES


def test_more_than_twenty_lines_are_refused() -> None:
    with pytest.raises(ValueError, match="at most 20 lines"):
        made(expected=["expected = 0"] * 8)


def test_tf32_turned_off_is_turned_off_in_the_program_too() -> None:
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        assert "enable_tensor_float_32_execution(False)" in made()
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)
    assert "enable_tensor_float_32_execution(False)" not in made()
