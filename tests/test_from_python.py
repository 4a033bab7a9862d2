"""Traces from Python: one run, loaded, shown, replayed and attributed, in a process that is left as it was."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import pytest
import tensorflow as tf

import diag
from diag.verdict.findings import Verdict
from tests.test_api import compared, draws, made, state_of_the_process

ALLOWANCES = """
[[allowances]]
place = "tensorflow-cpu"
dtypes = ["float32"]
source = "a test"
[allowances.ulp]
Tanh = 3
"""
LOADING = """
import sys
sys.modules["pandas"] = sys.modules["xarray"] = None  # as where they are not installed
import diag
report = diag.load(sys.argv[1])
print(report.verdict, len(report.show(report.first.where.layer)) > 100)
for name in ("ops", "excess"):
    try:
        getattr(report, name)
    except ImportError as error:
        print(error)
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> diag.Report:
    """Of a fault in every product, each op looked at."""
    return compared(made(), tmp_path_factory.mktemp("run"), candidate="sim:tf32", units="op", attribute=False)


def test_a_trace_says_what_its_run_found(run: diag.Report) -> None:
    loaded = diag.load(run.trace)
    assert loaded.verdict == run.verdict == "divergence" and loaded.losses == run.losses
    assert loaded.first is not None and run.first is not None
    assert loaded.first.to_dict() == run.first.to_dict()
    assert "DIVERGENCE AT STEP 0" in " ".join(str(loaded).upper().split())


def test_ops_and_excess_are_tables_of_pandas_and_xarray(run: diag.Report) -> None:
    ops, excess = run.ops, run.excess
    products = ops[ops.op_type == "MatMul"]
    assert len(set(products.layer)) == 2
    assert (products.verdict == "divergence").sum() >= 4  # two steps, two layers
    assert excess.dims == ("step", "unit") and list(excess.step.values) == [0, 1]
    layer = run.first.where.layer  # type: ignore[union-attr]
    assert (excess.sel(unit=layer) > 1).all() and float(excess.sel(unit="loss").max()) <= 1
    assert float(excess.max()) >= ops.excess.max() > 1


def test_what_was_found_of_a_layer_is_shown(run: diag.Report) -> None:
    layer = run.first.where.layer  # type: ignore[union-attr]
    text = run.show(layer)
    assert text.index("units") < text.index("ops") and "MatMul" in text and "divergence" in text
    assert "of loss" not in text and max(map(len, text.splitlines())) <= 100
    assert f"{layer}/kernel" in run.show(f"{layer}/kernel")
    with pytest.raises(ValueError, match=rf"has nothing of a layer 'nobody'; it has .*{layer}"):
        run.show("nobody")


def test_a_step_replays_in_this_process_and_prints_nothing(
    run: diag.Report, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text(ALLOWANCES)
    keras.utils.set_random_seed(8)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        before = state_of_the_process()
        wanted = draws()
        keras.utils.set_random_seed(8)
        both = diag.replay(run.trace, step=1)
        product = next(i for i, kind in zip(run.ops["index"], run.ops.op_type, strict=True) if kind == "MatMul")
        (op,) = diag.replay(run.trace, step=1, op=product, lane="candidate", tf32="off", allowances=mine)
        layer = diag.replay(run.trace, step=1, layer=run.first.where.layer, place="CPU:0")  # type: ignore[union-attr]
        here = diag.doctor()
        assert draws() == wanted and state_of_the_process() == before
    finally:
        keras.config.set_dtype_policy("float32")
    assert [replay.lane for replay in both] == ["reference", "candidate"] and all(r.is_exact for r in both)
    assert op.verdict is Verdict.DIVERGENCE and op.where.op_type == "MatMul"
    assert layer and all(each.verdict is not Verdict.DIVERGENCE for each in layer)
    assert here.tensorflow is not None and here.error == ""
    assert capfd.readouterr() == ("", "")


class Fourier(keras.layers.Layer):
    def build(self, shape: tuple[int, ...]) -> None:
        self.real = self.add_weight(shape=(shape[-1] // 2 + 1,), name="real")

    def call(self, x: Any) -> Any:
        spectrum = tf.signal.rfft(x) * tf.complex(tf.convert_to_tensor(self.real), tf.sin(self.real))
        return tf.signal.irfft(spectrum, fft_length=[x.shape[-1]])


def test_a_complex_op_replays_and_its_program_multiplies_complex_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = keras.Sequential([keras.Input((6,)), Fourier(name="fourier"), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    run = compared(model, tmp_path, steps=1, units="op", follow="free", twins=0)
    assert run.verdict == "identical" and all(lane.is_exact for lane in diag.replay(run.trace, step=0))
    products = run.ops[(run.ops.op_type == "Mul") & (run.ops["shape"] == "8x4x2") & (run.ops.phase == "forward")]
    program = tmp_path / "product.py"
    (product,) = diag.replay(run.trace, step=0, op=int(products["index"].iloc[0]), emit=program)
    assert product.verdict is Verdict.IDENTICAL and capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(program))
    error = float(re.search(r"output 0: error (\S+),", capsys.readouterr().out)[1])  # type: ignore[index]
    assert ended.value.code == 0 and 0 < error < 1e-5


@pytest.mark.slow
def test_attribution_gives_what_cures_it(run: diag.Report, capfd: pytest.CaptureFixture[str]) -> None:
    found = diag.attribute(run.trace, step=0, switches="execution=eager")
    assert found.is_reproduced and found.cures == () and found.trials[0].name == "execution=eager"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda trace: diag.load("nowhere.h5"), "There is no trace nowhere.h5; expected an HDF5 file"),
        (lambda trace: diag.load(__file__), "no trace|not a trace|HDF5"),
        (lambda trace: diag.replay(trace, step=99), "--step 99: .* holds the steps 0-1"),
        (lambda trace: diag.replay(trace, step=-1), "argument --step: expected a whole number of at least 0"),
        (lambda trace: diag.replay(trace, step=0, op=1, layer="dense"), "one at a time"),
        (lambda trace: diag.replay(trace, step=0, place="GPU:77"), "GPU:77"),
        (lambda trace: diag.replay(trace, step=0, colour="red"), "unrecognized arguments: --colour=red"),
        (lambda trace: diag.attribute(trace, switches="luck=on"), "--switches luck=on: expected some of"),
        (lambda trace: diag.attribute(trace, step=7), "--step 7: .* holds the steps 0, 1"),
    ],
)
def test_what_is_asked_wrongly_is_a_value_error_in_one_line(call, said: str, run: diag.Report) -> None:
    before = state_of_the_process()
    with pytest.raises(ValueError, match=said) as raised:
        call(run.trace)
    assert "\n" not in str(raised.value) and state_of_the_process() == before


def test_a_trace_loads_without_tensorflow_and_says_what_is_not_installed(run: diag.Report) -> None:
    ran = subprocess.run([sys.executable, "-c", LOADING, run.trace], capture_output=True, text=True)
    assert ran.stdout.splitlines() == [
        "divergence True",
        "a table of ops is a pandas DataFrame, and pandas is not installed: pip install pandas",
        "excess by step and unit is an xarray DataArray, and xarray is not installed: pip install xarray",
        "[]",
    ], ran.stderr


def test_what_is_called_and_what_is_imported_are_one() -> None:
    import diag.replay as module

    assert module is diag.replay and callable(module) and "replay" in dir(diag)
    with pytest.raises(TypeError, match="step"):
        diag.replay("trace.h5")
