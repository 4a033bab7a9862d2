"""Every one of the 2^32 numbers of float32 through an op of one argument; interrupted, it goes on where it was.

Truth is computed in threads, block by block and ahead of the device: NumPy lets go of the interpreter, and the arrays
are shared, not copied.
"""

from __future__ import annotations

import functools
import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt

from diag.common.files import write_text
from diag.common.progress import SECONDS_BETWEEN_LINES
from diag.errors import UserError
from probes.accuracy.allowed import Limits, limits_of
from probes.accuracy.elementwise import UNARY, Function
from probes.accuracy.op_call import computation_of
from probes.accuracy.samples import float32_of
from probes.accuracy.tally import Tally, judged, tally
from probes.accuracy.ulp_measurements import FAMILY, TalliedErrors, measurement
from probes.frame.device_report import Measurement
from probes.frame.fallback import check_placed
from probes.frame.plan import Choice, Probe

CASE = "all 2^32 inputs"
FOLDER = Path("runs/probes-exhaustive")
BLOCK = 1 << 22  # 16 MiB of inputs and 32 MiB of truth at a time and thread
NUM_BLOCKS = (1 << 32) // BLOCK
SECONDS_BETWEEN_SAVES = 5.0
SCHEMA = "lockstep-exhaustive/1"
BY_MPMATH = ("Lgamma", "Digamma")  # where float64 is no truth near zeros: 10^8 numbers would take mpmath hours

Compute = Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]
Watch = Callable[[int, int], None]


def probes(choice: Choice) -> Iterator[Probe]:
    for function in UNARY:
        if function.op not in BY_MPMATH:
            run = functools.partial(_read, function, choice.state or FOLDER, choice.quiet)
            yield Probe(FAMILY, function.op, "float32", CASE, run)


def _read(function: Function, folder: Path, quiet: bool, device: Any) -> Iterator[Measurement]:
    computation = computation_of(function, device)
    check_placed(device, computation, [np.zeros(BLOCK, np.float32)])
    limits = limits_of(function.op, "float32", device.place, function.terms_ulp)
    environment = device.environment()
    about = {
        "op": function.op, "place": str(device), "seed": device.seed, "allowed": limits.ulp,
        **{name: environment.get(name) for name in ("tensorflow", "chip", "tf32", "op_determinism")},
    }  # fmt: skip
    file = folder / f"{function.op}-{str(device).replace('/', '-').replace(':', '-')}.json"
    watch = None if quiet else Lines(function.op)
    found = over_all(function, lambda x: computation(x)[0], limits, SweepState(file, about), watch=watch)
    yield measurement(TalliedErrors(function, "float32", found, limits), CASE, device.place)


class Lines:
    """A line of progress on stderr now and then."""

    def __init__(self, op: str) -> None:
        self.op = op
        self._spoke_at = self._begun = time.monotonic()
        self._first = -1

    def __call__(self, done: int, of: int) -> None:
        now = time.monotonic()
        self._first = done - 1 if self._first < 0 else self._first
        if now - self._spoke_at >= SECONDS_BETWEEN_LINES or done == of:
            self._spoke_at = now
            left = (now - self._begun) / (done - self._first) * (of - done)
            print(f"{self.op}: {100 * done / of:.1f}% of 2^32 inputs, {left:.0f} s left", file=sys.stderr)


class SweepState:
    """How far one op has come, in a file that is replaced whole: a kill at any moment loses a few seconds of work.

    about: what the figures depend on; a file about something else is begun anew.
    """

    def __init__(self, file: Path, about: dict[str, Any]) -> None:
        self.file = file
        self.about = {"schema": SCHEMA, **{name: _plain(value) for name, value in about.items()}}

    def load(self) -> tuple[int, Tally]:
        """The number of blocks done, and what they add up to; nothing where there is no such file.

        Raises UserError where the file is not one of ours.
        """
        if not self.file.exists():
            return 0, Tally()
        try:
            saved = json.loads(self.file.read_text(encoding="utf-8"))
            if saved.pop("about") != self.about:
                return 0, Tally()
            return int(saved["num_blocks"]), Tally.from_dict(saved["tally"])
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(
                f"{self.file}: expected the state of an exhaustive probe, {type(error).__name__}: {error}; delete it "
                "to begin anew"
            ) from error

    def save(self, num_blocks: int, found: Tally) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        document = {"about": self.about, "num_blocks": num_blocks, "tally": found.to_dict()}
        write_text(self.file, json.dumps(document))  # infinities as Python reads them


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def over_all(
    function: Function,
    compute: Compute,
    limits: Limits,
    state: SweepState,
    blocks: range = range(NUM_BLOCKS),
    watch: Watch | None = None,
) -> Tally:
    """The tally over all inputs, or over the blocks named, in order; block b holds the encodings from b * BLOCK on.

    compute: the op on a float32 array.  watch: told blocks done, of how many.
    """
    done, result = state.load()
    saved = time.monotonic()
    todo = blocks[done:]
    cores = joblib.cpu_count()
    room = threading.Semaphore(2 * cores)  # joblib itself lets results pile up
    work = (joblib.delayed(_truth)(function, block, room) for block in todo)
    ahead = joblib.Parallel(n_jobs=cores, backend="threading", return_as="generator")(work)
    for number, (x, truth, chosen) in enumerate(ahead, done + 1):
        room.release()
        y = compute(x)
        if chosen is not None:
            x, y, truth = x[chosen], y[chosen], truth[chosen]
        result = result.plus(tally(function, [x], y, truth, limits))
        now = time.monotonic()
        if now - saved > SECONDS_BETWEEN_SAVES or number == len(blocks):
            state.save(number, result)
            saved = now
        if watch:
            watch(number, len(blocks))
    return result


def _truth(
    function: Function, block: int, room: threading.Semaphore
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float64], npt.NDArray[np.bool_] | None]:
    """Inputs of a block, their float64 results, and which are judged, None for all."""
    room.acquire()
    x = float32_of(np.arange(block * BLOCK, (block + 1) * BLOCK, dtype=np.uint64).astype(np.uint32))
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        truth = np.asarray(function.truth(wide), np.float64)
        chosen = judged(function, [x], [wide])
    return x, truth, None if chosen.all() else chosen
