"""A trace is readable while it is written, and after its writer was killed at any moment."""

from __future__ import annotations

import random
import runpy
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diag.errors import UserError
from traces.checksums import tensor_checksum
from traces.reader import TraceReader

SCRIPT = Path(__file__).with_name("endless.py")
RUN: dict[str, Any] = runpy.run_path(str(SCRIPT))


@contextmanager
def endless_run(path: Path, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(SCRIPT), str(path), *map(str, arguments)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield run
    finally:
        run.kill()
        run.communicate()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def assert_whole(trace: TraceReader, step: int) -> None:
    for key, written in RUN["tensors"](step).items():
        assert trace.checksum(step, *key) == tensor_checksum(written), (step, key)
        assert (key in trace.kept_in(step)) == (key in RUN["kept"](step)), (step, key)
        if key in trace.kept_in(step):
            assert trace.tensor(step, *key).tobytes() == written.tobytes(), (step, key)
    assert trace.batch(step)["inputs"].tobytes() == RUN["bits"](step, (8, 3)).tobytes()
    for lane in RUN["LANES"]:
        assert trace.snapshot(step, lane)["dense"].tobytes() == RUN["bits"](step, (64, 9), lane).tobytes()
        assert trace.losses[lane][step] == step / 8
    assert trace.excess[step].tolist() == list(RUN["excess"](step).values())


def assert_whole_tables(trace: TraceReader, least_steps: int) -> None:
    table = trace.op_table()
    rows = [row for step in range(len(trace.steps) + 1) for row in RUN["ops"](step)]
    num_rows = len(table["step"])
    assert num_rows >= len(RUN["ops"](0)) * least_steps
    for name, values in table.items():
        assert list(values) == [row[name] for row in rows[:num_rows]], name
    programs = trace.programs
    assert len(programs) >= least_steps
    assert programs == [RUN["program"](step) for step in range(len(programs))]
    report = trace.report()
    assert (-1 if report is None else report["steps"]) >= least_steps - 1


@pytest.mark.parametrize("moment", range(8))
def test_a_kill_leaves_every_whole_step(tmp_path: Path, moment: int) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path) as run:
        wait_for(path)
        time.sleep(random.Random(moment).uniform(0, 0.3) if moment else 0)
        run.kill()
        printed, _ = run.communicate()
    with TraceReader(path) as trace:
        assert trace.steps == list(range(len(trace.steps)))
        assert len(trace.steps) >= len(printed.split())
        assert trace.command == ["endless"]
        for step in trace.steps:
            assert_whole(trace, step)
        assert_whole_tables(trace, least_steps=len(printed.split()))


def test_a_kill_before_the_first_row_leaves_no_broken_trace(tmp_path: Path) -> None:
    for delay in (0.15, 0.2, 0.25, 0.3):
        path = tmp_path / f"{delay}.h5"
        with endless_run(path) as run:
            time.sleep(delay)
            run.kill()
            run.communicate()
        if path.exists():
            with TraceReader(path) as trace:
                assert trace.seeds == {"seed": 3}


def test_readers_follow_a_run(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path):
        wait_for(path)
        with TraceReader(path) as trace:
            seen = [0]
            while len(seen) < 5:
                if len(trace.steps) > seen[-1]:
                    seen.append(len(trace.steps))
                    for reader in (trace,):
                        assert_whole(reader, 0)
                        assert_whole(reader, seen[-1] - 1)
                        assert_whole(reader, seen[-1] // 2)
                        assert_whole_tables(reader, least_steps=seen[-1] - 1)


def test_a_full_disk_is_one_line_and_keeps_the_whole_steps(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path, "--file-size", 1_500_000) as run:
        printed, error = run.communicate(timeout=30)
    assert run.returncode == 2
    assert error.count("\n") == 1
    assert f"Cannot write to the trace {path}: File too large" in error
    assert "free some room" in error
    with TraceReader(path) as trace:
        assert len(trace.steps) >= len(printed.split()) > 3
        for step in trace.steps:
            assert_whole(trace, step)


@pytest.mark.parametrize("num_bytes", [1, 20_000, 40_000])
def test_a_disk_that_is_full_from_the_start_is_one_line_and_leaves_nothing(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path, "--file-size", num_bytes) as run:
        printed, error = run.communicate(timeout=30)
    assert (run.returncode, printed, error.count("\n")) == (2, "", 1)
    assert f"Cannot create the trace {path}: File too large" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("num_bytes", [60_000, 100_000, 200_000, 333_333])
def test_a_disk_that_fills_early_keeps_the_whole_steps(tmp_path: Path, num_bytes: int) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path, "--file-size", num_bytes) as run:
        printed, error = run.communicate(timeout=30)
    assert (run.returncode, error.count("\n")) == (2, 1)
    with TraceReader(path) as trace:
        assert len(trace.steps) >= len(printed.split())
        for step in trace.steps:
            assert_whole(trace, step)


def test_a_trace_cut_short_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path, "--steps", 6) as run:
        run.communicate()
    whole = path.read_bytes()
    for length in (0, 5, 11, 40, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"truncated|no trace") as caught, TraceReader(path):
            pass
        assert "\n" not in str(caught.value)


def read_what_is_left(path: Path, share: float) -> None:
    """Of a row that is lost there is nothing; nothing is ever told of it that was not written."""
    found = []
    try:
        with TraceReader(path) as trace:
            for step in trace.steps:
                for key, written in RUN["tensors"](step).items():
                    checksum, is_kept = trace.checksum(step, *key), key in trace.kept_in(step)
                    assert checksum in (None, tensor_checksum(written)), (step, key)
                    assert not is_kept or trace.tensor(step, *key).tobytes() == written.tobytes(), (step, key)
                    found.append(checksum is not None and is_kept == (key in RUN["kept"](step)))
    except UserError as error:
        assert "truncated or damaged" in str(error) or "missing or damaged" in str(error)
    else:
        assert not found or not all(found) or share > 0.5  # the last tenth may hold nothing yet


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_killed_trace_cut_short_is_refused_or_lacks_what_is_lost(tmp_path: Path, share: float) -> None:
    path = tmp_path / "trace.h5"
    with endless_run(path) as run:
        wait_for(path)
        time.sleep(0.3)
        run.kill()
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    read_what_is_left(path, share)


def test_the_run_is_worth_killing() -> None:
    values = RUN["bits"](0, (8, 40, 50))
    payloads = values.view(np.uint32)[np.isnan(values)]
    assert len(np.unique(payloads)) > 10
