"""Event files: sibling runs under the same tags, with the figures of the trace; nothing where they cannot be."""

from __future__ import annotations

import math
import struct
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from diag import lockstep
from diag.report import tensorboard
from diag.report.__main__ import main
from diag.report.tensorboard import EventFiles
from tests import traced
from tests.traces.conftest import write_trace
from traces.reader import TraceReader
from traces.schema import StepRecord


def events_in(folder: Path) -> dict[str, dict[int, object]]:
    """tag -> step -> value, of scalars a number, of histograms (upper edges, counts); records as TFRecord has them."""
    event_pb2 = pytest.importorskip("tensorboardX.proto.event_pb2")
    (path,) = folder.iterdir()
    content, at, found = path.read_bytes(), 0, defaultdict(dict)
    while at < len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = event_pb2.Event.FromString(content[at + 12 : at + 12 + length])
        at += 16 + length
        for value in event.summary.value:
            histogram = value.histo
            found[value.tag][event.step] = (
                (list(histogram.bucket_limit), list(histogram.bucket))
                if value.HasField("histo")
                else value.simple_value
            )
    return dict(found)


def test_a_trace_becomes_two_runs_of_the_same_tags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboardX")
    path, out = write_trace(tmp_path / "trace.h5"), tmp_path / "board"
    assert main([str(path), "--tensorboard", str(out)]) == 1
    assert capsys.readouterr().out == f"tensorboard --logdir {out}\n"
    reference, candidate = (events_in(out / lane) for lane in ("reference", "candidate"))
    assert reference.keys() <= candidate.keys() and reference["loss"].keys() == {0, 1, 2}
    assert (reference["loss"][1], candidate["loss"][1]) == (0.5, 0.25)
    with TraceReader(path) as trace:
        kernel = trace.tensor(1, "candidate", "gradients", "dense/kernel")
    assert candidate["norm_of_gradients/dense/kernel"][1] == np.float32(math.sqrt(np.sum(kernel.astype(float) ** 2)))
    edges, counts = candidate["log2_ulp_distance_of_gradients/dense/kernel"][2]
    assert [(edge, count) for edge, count in zip(edges, counts, strict=True) if count] == [
        (2.0, 6.0)
    ]  # 2 ULP each: from 2^1 to 2^2
    assert main([str(path), "--tensorboard", str(out)]) == 2 and "holds something already" in capsys.readouterr().err


def test_excess_is_zero_within_the_bound_and_counts_decades_beyond(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    with EventFiles(tmp_path, ("reference", "candidate")) as events:
        excess = {"a": 0.5, "b": 100.0, "c": math.nan, "d": math.inf}
        events.add(StepRecord(7, 0, {"reference": 1.0, "candidate": math.nan}, excess=excess))
    found = events_in(tmp_path / "candidate")
    assert found.keys() == {"loss", "log10_excess/a", "log10_excess/b", "log10_excess/d"}
    assert [found[f"log10_excess/{layer}"][7] for layer in "abd"] == [0.0, 2.0, math.inf]
    assert events_in(tmp_path / "reference").keys() == {"loss"}


def test_a_run_writes_them_as_it_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("tensorboardX")
    out, board = tmp_path / "run", tmp_path / "board"
    given = [*traced.MLP, "--candidate", "sim:tf32", *traced.FREE, *traced.QUICK, "--quiet", "--out", str(out)]
    assert lockstep.main([*given, "--tensorboard", str(board)]) == 1
    live = [events_in(board / lane) for lane in ("reference", "candidate")]
    capsys.readouterr()
    main([str(out / "trace.h5"), "--tensorboard", str(tmp_path / "again")])
    again = [events_in(tmp_path / "again" / lane) for lane in ("reference", "candidate")]
    assert live == again and len(live[0]["loss"]) == 3 and "norm_of_update/dense/kernel" in live[0]


def test_without_tensorboardx_it_says_what_to_install_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    path = write_trace(tmp_path / "trace.h5")
    for call in (lambda *words: main([str(path), *words]), lambda *words: lockstep.main([*words])):
        assert call("--tensorboard", str(tmp_path / "board")) == 2
        said = capsys.readouterr().err
        assert "pip install 'tf-lockstep[tensorboard]'" in said and said.count("\n") == 1
    assert not (tmp_path / "board").exists()


def test_a_trace_is_shown_without_tensorflow(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    path = write_trace(tmp_path / "trace.h5")
    code = (
        "import sys; from diag.report.__main__ import main; "
        f"main([{str(path)!r}, '--tensorboard', {str(tmp_path / 'board')!r}]); sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
