"""All inputs of a block: glibc's known maxima found; a run that was stopped ends as one that was not."""

from __future__ import annotations

import ctypes
import platform

import numba
import numpy as np
import pytest

from diag.errors import UserError
from probes.accuracy import exhaustive
from probes.accuracy.allowed import Limits
from probes.accuracy.elementwise import UNARY
from probes.accuracy.exhaustive import BLOCK, NUM_BLOCKS, SweepState, over_all

BY_OP = {function.op: function for function in UNARY}
NOTHING = Limits(None)

# of glibc 2.36 over all 2^32 inputs: largest error, its input
GLIBC = {
    "Exp": ("expf", 0.501637, 0xBBE7328F), "Log": ("logf", 0.817664, 0x3F830083), "Tan": ("tanf", 1.475501, 0x631D36F8),
    "Tanh": ("tanhf", 2.188555, 0x3E6EE50C), "Expm1": ("expm1f", 0.812797, 0x3EB9C703),
    "Log1p": ("log1pf", 1.293279, 0x3ED413DA), "Erf": ("erff", 0.967919, 0x3F563109),
    "Atan": ("atanf", 0.852108, 0x3F3133B9), "Sinh": ("sinhf", 1.889404, 0x42B2C4C6),
}  # fmt: skip
FEW = ("Exp", "Tan", "Tanh")  # the least of the maxima, one of a huge argument, and the largest


@numba.njit
def _each(function, x, y):
    for index in range(x.size):
        y[index] = function(x[index])


def of_libm(name):
    function = getattr(ctypes.CDLL("libm.so.6"), name)
    function.argtypes, function.restype = [ctypes.c_float], ctypes.c_float

    def compute(x):
        y = np.empty_like(x)
        _each(function, x, y)
        return y

    return compute


@pytest.mark.skipif(
    platform.libc_ver() != ("glibc", "2.36") or platform.machine() != "x86_64",
    reason=f"the maxima are those of glibc 2.36 on x86_64, not of {platform.libc_ver()} {platform.machine()}",
)
@pytest.mark.parametrize("op", [pytest.param(op, marks=() if op in FEW else pytest.mark.slow) for op in GLIBC])
def test_the_known_maximum_of_glibc_is_found_among_four_million_inputs(op, tmp_path):
    name, largest, encoding = GLIBC[op]
    block = encoding // BLOCK
    state = SweepState(tmp_path / "state.json", {})
    found = over_all(BY_OP[op], of_libm(name), NOTHING, state, range(block, block + 1))
    assert found.max_ulp == pytest.approx(largest, abs=5e-7)
    assert found.worst is not None
    assert np.float32(found.worst.arguments[0]).view(np.uint32) == encoding


def square(x):
    return x * x


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_goes_on_and_ends_as_one_that_was_not(tmp_path, monkeypatch):
    monkeypatch.setattr(exhaustive, "BLOCK", 1 << 12)
    monkeypatch.setattr(exhaustive, "SECONDS_BETWEEN_SAVES", 0.0)
    blocks, calls = range(254 << 10, (254 << 10) + 8), []

    def stopping(x):
        if len(calls) == 5:
            raise Stopped
        calls.append(x)
        return square(x)

    state = SweepState(tmp_path / "new" / "state.json", {"op": "Square"})
    with pytest.raises(Stopped):
        over_all(BY_OP["Square"], stopping, NOTHING, state, blocks)
    assert state.load()[0] == 5

    resumed = []
    found = over_all(BY_OP["Square"], lambda x: resumed.append(x) or square(x), NOTHING, state, blocks)
    assert len(resumed) == 3
    whole = over_all(BY_OP["Square"], square, NOTHING, SweepState(tmp_path / "other.json", {}), blocks)
    assert found == whole
    assert whole.num_inputs == 8 << 12 and 0.49 < whole.max_ulp <= 0.5
    assert [file.name for file in state.file.parent.iterdir()] == ["state.json"]


def test_a_state_of_another_place_is_not_gone_on_with(tmp_path):
    file = tmp_path / "state.json"
    SweepState(file, {"place": "CPU:0"}).save(7, exhaustive.Tally(num_inputs=7))
    assert SweepState(file, {"place": "CPU:0"}).load() == (7, exhaustive.Tally(num_inputs=7))
    assert SweepState(file, {"place": "GPU:0"}).load() == (0, exhaustive.Tally())


def test_a_file_that_is_no_state_is_refused_in_a_line(tmp_path):
    (tmp_path / "state.json").write_text("[1, 2", encoding="utf-8")
    with pytest.raises(UserError, match="delete it to begin anew"):
        SweepState(tmp_path / "state.json", {}).load()


def test_blocks_cover_every_encoding_once():
    assert NUM_BLOCKS * BLOCK == 1 << 32
