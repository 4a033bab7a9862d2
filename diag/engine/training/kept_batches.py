"""Batches of a stream that is read once, kept on disk to be read again."""

from __future__ import annotations

import pickle
import tempfile
import weakref

from diag.common.wording import size_text, type_and_message
from diag.engine.step.batch import Batch, longest_of
from diag.errors import UserError

MOST_KEPT = 8 << 30  # bytes


class KeptBatches:
    """`batches[k]` is the batch of step k, as often as it is asked for; their file has no name and goes with them."""

    def __init__(self, most: int = MOST_KEPT) -> None:
        self.most = most
        self._file = tempfile.TemporaryFile(prefix="lockstep-batches-")  # noqa: SIM115, open as long as they are
        self._starts: list[int] = []
        self._last: tuple[int, Batch] | None = None
        weakref.finalize(self, self._file.close)
        self.longest: Batch | None = None  # along each axis

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, step: int) -> Batch:
        if self._last is None or self._last[0] != step:
            self._file.seek(self._starts[step])
            self._last = step, pickle.load(self._file)
        return self._last[1]

    @property
    def is_full(self) -> bool:
        return self._file.tell() >= self.most

    def add(self, batch: Batch, wanted: int) -> bool:
        """Keep one more; gives whether that leaves some of the `wanted` number, and room for them.

        Raises:
            UserError: it cannot be written.
        """
        try:
            start = self._file.seek(0, 2)
            pickle.dump(batch, self._file, protocol=pickle.HIGHEST_PROTOCOL)
        except OSError as error:
            raise UserError(
                f"batch {len(self)} cannot be kept in {tempfile.gettempdir()} ({type_and_message(error)}); give fewer "
                "--steps, or name a folder with more room in TMPDIR"
            ) from error
        self._starts.append(start)
        self.longest = batch if self.longest is None else longest_of([self.longest, batch])
        return len(self) < wanted and not self.is_full

    @property
    def size(self) -> str:
        return size_text(self._file.seek(0, 2))
