"""A run as TensorBoard shows it: a run for each place, under the same tags, so that their curves lie on each other.

Written by tensorboardX, which needs no TensorFlow: while a run goes on, step by step, or from its trace.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from diag.common.files import refuse_unwritable
from diag.common.modes import TRAIN, figure_key, mode_in
from diag.errors import UserError
from diag.numerics.figures import HISTOGRAM_EDGES
from diag.numerics.statistics import compare
from traces.encoding import widen
from traces.reader import TraceReader
from traces.schema import StepRecord, TensorKey

KINDS = ("activations", "gradients", "update")
"""Of the tensors of a step: of the state after it there are a trace's own checksums and values."""
FLUSH_SECONDS = 5


def refuse_tensorboard(folder: Path, is_resumed: bool = False) -> None:
    """Say before any work that event files cannot be written.

    Raises:
        UserError: tensorboardX is missing, or the folder holds something, so that two runs would be drawn as one.
    """
    if find_spec("tensorboardX") is None:
        raise UserError(
            f"--tensorboard {folder} needs tensorboardX, which is not installed: pip install 'tf-lockstep[tensorboard]'"
        )
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"--tensorboard {folder}: {existing} is no folder; name one that can be made")
    refuse_unwritable("--tensorboard", existing / "events")
    if not is_resumed and folder.exists() and any(folder.iterdir()):
        raise UserError(f"--tensorboard {folder} holds something already; name a new folder, one for each run")


class EventFiles:
    """Event files in the making, DIR/LANE for each lane; use it as a context manager.

    A tag is WHAT/NAME: `loss` (of predictions their own figure), `norm_of_activations/dense`; of the candidate also
    `log10_excess/dense`, where 0 is within the bound, and `log2_ulp_distance_of_activations/dense`, a histogram with
    equal elements at -1.
    """

    def __init__(self, folder: Path, lanes: Sequence[str], mode: str = TRAIN) -> None:
        from tensorboardX import SummaryWriter

        logging.getLogger("tensorboardX").setLevel(logging.ERROR)  # it says which signs of a layer's name become a "_"
        self.base, *self.others = lanes
        self.figure = figure_key(mode)
        self._writers = {lane: SummaryWriter(str(folder / lane), flush_secs=FLUSH_SECONDS) for lane in lanes}

    def add(self, record: StepRecord) -> None:
        """One step; histograms of what is kept of it in every lane."""
        for lane, loss in record.losses.items():
            self._writers[lane].add_scalar(self.figure, loss, record.step)
        for (lane, kind, name), array in record.tensors.items():
            if kind in KINDS:
                self._writers[lane].add_scalar(f"norm_of_{kind}/{name}", _norm(array), record.step)
        for lane in self.others:
            for layer, excess in record.excess.items():
                if not math.isnan(excess):
                    self._writers[lane].add_scalar(f"log10_excess/{layer}", math.log10(max(1.0, excess)), record.step)
            self._add_distances(record, lane)

    def _add_distances(self, record: StepRecord, lane: str) -> None:
        kept = record.tensors.keys() if record.keep is None else record.keep
        for key in kept:
            if key[0] != lane or key[1] not in KINDS:
                continue
            array, base = record.tensors[key], record.tensors.get((self.base, *key[1:]))
            if base is not None and base.shape == array.shape and array.dtype.kind not in "biuc" and array.size:
                counts = compare(base, array).histogram
                self._writers[lane].add_histogram_raw(
                    f"log2_ulp_distance_of_{key[1]}/{key[2]}", **_histogram(counts), global_step=record.step
                )

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()

    def __enter__(self) -> EventFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def write_events(trace: TraceReader, folder: Path) -> None:
    """All steps of a trace; norms and histograms of the tensors of which it keeps the values.

    Raises:
        UserError: it cannot be read, or the event files not be written.
    """
    try:
        with EventFiles(folder, trace.layout.lanes, mode_in(trace.settings)) as events:
            for record in records_of(trace):
                events.add(record)
    except OSError as error:
        raise UserError(
            f"--tensorboard {folder}: {error.strerror or error}; name a folder that can be written"
        ) from error


def records_of(trace: TraceReader) -> Iterator[StepRecord]:
    """The steps as they were handed to the writer, as far as their values were kept."""
    losses, excess, layers = trace.losses, trace.excess, trace.layout.layers
    rows = {number: row for row, number in enumerate(trace.steps)}  # the last, where a step was written again
    for number, row in rows.items():
        kept = [key for key in trace.kept_in(number) if key[1] in KINDS]
        tensors: Mapping[TensorKey, np.ndarray] = {key: trace.tensor(number, *key) for key in kept}
        yield StepRecord(
            step=number,
            batch=0,
            losses={lane: float(values[row]) for lane, values in losses.items()},
            tensors=tensors,
            excess=dict(zip(layers, excess[row].tolist(), strict=True)),
        )


def _norm(array: np.ndarray) -> float:
    """Of all elements, in float64."""
    return float(np.linalg.norm(widen(array).astype(np.float64, copy=False).ravel()))


def _histogram(counts: np.ndarray) -> dict[str, Any]:
    """What `add_histogram_raw` takes: log2 of the distance, equal elements at -1, up to the last bin in use."""
    first = int(np.searchsorted(HISTOGRAM_EDGES, 1.0))  # between two floats of a format it is a whole number
    bins = np.concatenate([[counts[:first].sum()], counts[first:]])
    bins = bins[: int(np.flatnonzero(bins)[-1]) + 1] if bins.any() else bins[:1]
    upper = np.arange(len(bins), dtype=np.float64)
    middle = upper - 0.5
    return {
        "min": -1.0,
        "max": float(upper[-1]),
        "num": int(bins.sum()),
        "sum": float(bins @ middle),
        "sum_squares": float(bins @ middle**2),
        "bucket_limits": upper.tolist(),
        "bucket_counts": bins.tolist(),
    }
