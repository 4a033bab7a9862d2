"""What XLA refuses to compile is a line, not a bug of ours."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import tensorflow as tf

from diag.engine.runs.run import LockstepRun
from diag.errors import UserError
from diag.machine.places import parse_place

SAYS = "Seen floating point types of different precisions, but mixed precision is disallowed."


@pytest.mark.parametrize(("step", "is_ours"), [(0, False), (1, True)])
def test_xlas_own_verifier_refuses_a_step(step, is_ours):
    """A gradient of resized float16 images is float32, which XLA finds out late; what compiled once compiles again."""
    run: Any = SimpleNamespace(settings=SimpleNamespace(candidate=parse_place("CPU:0/xla"), first_step=0))
    found = LockstepRun._reason(run, tf.errors.InternalError(None, None, SAYS), step)
    assert isinstance(found, tf.errors.InternalError if is_ours else UserError)
    assert is_ours or str(found) == f"CPU:0/xla: XLA cannot compile this step: {SAYS}"
