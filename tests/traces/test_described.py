"""What a trace says of each op: attributes, inputs and the line that made it; no text of it is obeyed."""

from __future__ import annotations

import json
from pathlib import Path

import h5py
import hdf5plugin  # noqa: F401  what text columns are compressed with
import pytest

from diag.common.source_lines import SourceLine
from traces.described import DescribedOp, OpInput, rows_of
from traces.reader import TraceReader
from traces.schema import RunDocuments, TraceLayout
from traces.writer import TraceWriter

EVIL = "[bold]x\x1b[2J\u202e"
LINE, OTHER = SourceLine("model.py", 31, "call", "x = tf.nn.conv2d(x)"), SourceLine(f"{EVIL}.py", 2, "f", EVIL)
CONV = DescribedOp(
    4, "m/conv", "Conv2D", "forward", "conv", None, LINE, "float32 4x10x10x8",
    (OpInput("batch, part 0", None, 0, "float32", "4x12x12x3"), OpInput("m/read", 3, 1, "float32", "3x3x3x8")),
    {"padding": "VALID", "strides": "[1, 1, 1, 1]"},
)  # fmt: skip
ADD = DescribedOp(5, "m/add", "AddV2", "optimizer", None, "conv/bias", None, "float32")
READ = DescribedOp(3, EVIL, "ReadVariableOp", "forward", "conv", None, OTHER)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two programs, of which the second has one op of the same line."""
    path, known = tmp_path_factory.mktemp("described") / "trace.h5", {}
    layout = TraceLayout(lanes=("reference",), describes_ops=True)
    with TraceWriter(path, layout, RunDocuments({"reference": {}})) as writer:
        writer.describe_ops(rows_of((CONV, ADD, READ), 0, known))
        writer.describe_ops(rows_of((CONV,), 1, known))
    return path


def test_what_is_written_is_read_back(path: Path) -> None:
    with TraceReader(path) as trace:
        assert trace.described_ops() == {4: CONV, 5: ADD, 3: READ}
        assert trace.described_ops(1) == {4: CONV}
        assert trace.source_lines() == {0: LINE, 1: OTHER}


def test_plain_h5py_finds_the_line_of_an_op(path: Path) -> None:
    with h5py.File(path) as file:
        nodes, sources = file["nodes"], file["sources"]
        row = nodes["name"].asstr()[()].tolist().index("m/conv")
        place = sources["index"][()].tolist().index(nodes["source"][row])
        assert (sources["file"].asstr()[place], sources["line"][place]) == ("model.py", 31)


def test_a_trace_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "t.h5", TraceLayout(), RunDocuments({"reference": {}, "candidate": {}})):
        pass
    with h5py.File(tmp_path / "t.h5", "r+") as file:
        layout = json.loads(file["layout"][()])
        assert layout.pop("describes_ops") is False and "nodes" not in file
        del file["layout"], file["checksums"]
        file.create_dataset("layout", data=json.dumps(layout), dtype=h5py.string_dtype("utf-8", 4096))
    with TraceReader(tmp_path / "t.h5") as trace:
        assert trace.described_ops() == {} and trace.source_lines() == {}


def test_show_says_what_an_op_is_and_no_text_is_obeyed(run, path: Path) -> None:
    text = run("show", path, "--op", 4).out
    assert "made at     model.py:31: x = tf.nn.conv2d(x)" in text and "padding=VALID, strides=[1, 1, 1, 1]" in text
    assert "1  op 3 [1]  m/read         float32 3x3x3x8" in text and "nothing was judged of it" in text
    assert run("show", path, "--op", 4, "--json").document["op"]["inputs"][1]["producer"] == 3
    evil = run("show", path, "--op", 3).out
    assert "[bold]x\\x1b[2J\\u202e" in evil and not {"\x1b", "\u202e"} & set(evil)
    assert run("verify", path).code == 0
