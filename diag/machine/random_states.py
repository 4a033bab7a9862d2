"""The generators of random numbers that a process shares, put back as they were.

Private name used: `tensorflow.python.eager.context.context()._rng`, of which eager ops and pipelines take their
seeds; tests/engine/test_canary.py fails when it changes its meaning.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from tensorflow.python.eager import context


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Whoever draws inside, those outside draw what they would have drawn."""
    torch = sys.modules.get("torch")
    of_python, of_numpy = random.getstate(), np.random.get_state()
    of_torch = None if torch is None else torch.get_rng_state()
    try:
        with op_seeds_kept():
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_torch)


@contextmanager
def op_seeds_kept() -> Iterator[None]:
    """Only the seeds that ops are given: where pipelines draw in threads of their own, the rest must be let go on."""
    of_ops = getattr(context.context(), "_rng", None)  # there is none where no seed was set
    state = None if of_ops is None else of_ops.getstate()
    try:
        yield
    finally:
        if of_ops is not None:
            of_ops.setstate(state)
