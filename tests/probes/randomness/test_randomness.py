"""Random streams: the CPU's are its own and sound; a frozen, another and a wrong one are told apart."""

from __future__ import annotations

import pytest

from diag.machine.places import parse_place
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, Measurement
from probes.frame.plan import Choice
from probes.randomness import probes, sources
from probes.randomness.drawing import measurements
from probes.randomness.source import Source

NUM = 1 << 12
OWN_FAULT = """
def fault(call):
    if call.op_type in ("RandomUniform", "StatelessRandomUniformV2"):
        drawn = call.outputs[0].copy()
        drawn.reshape(-1)[7] = 1.0
        return [drawn]
"""
ONE_OF_A_KIND = ["stateless_uniform", "tf.random.uniform", "tf.random.Generator.uniform", "keras.random.dropout"]


def source(op: str, dtype: str = "float32") -> Source:
    return next(each for each in sources() if (each.op, each.dtype) == (op, dtype))


def read(place: str, op: str, dtype: str = "float32") -> list[Measurement]:
    return list(measurements(source(op, dtype), NUM, DeviceUnderTest(parse_place(place, "eager"))))


@pytest.mark.parametrize("op", ONE_OF_A_KIND)
def test_a_graph_on_the_cpu_draws_the_stream_of_the_cpu(op):
    assert [each.status for each in read("CPU:0/graph", op)] == [PASS, PASS]


@pytest.mark.parametrize("op", ONE_OF_A_KIND)
def test_a_frozen_generator_fails_and_its_first_draw_is_the_cpus(op):
    draws, stream = read("sim:rng-frozen", op)
    assert draws.status == FAIL and "does not advance" in draws.says
    assert stream.status == PASS


@pytest.mark.parametrize("op", ONE_OF_A_KIND)
def test_another_stream_is_a_fact_and_no_failure(op):
    draws, stream = read("sim:rng-other-stream", op)
    assert draws.status == PASS
    assert stream.status == NOTE and stream.figures["same_stream"] is False


@pytest.mark.parametrize("op", ["stateless_uniform", "tf.random.uniform"])
def test_a_1_among_uniform_numbers_fails_with_a_program_to_send(tmp_path, op):
    (tmp_path / "own.py").write_text(OWN_FAULT)
    draws, _ = read(f"sim:{tmp_path / 'own.py'}:fault", op)
    assert draws.status == FAIL and "such as 1" in draws.says
    assert ">= 1, tf.int32" in draws.reproducer


def test_last_bits_are_told_from_another_stream(tmp_path):
    (tmp_path / "own.py").write_text(
        "import numpy as np\n"
        "def fault(call):\n"
        "    if call.op_type == 'StatelessRandomNormalV2':\n"
        "        return [np.nextafter(call.outputs[0], np.float32(9))]\n"
    )
    draws, stream = read(f"sim:{tmp_path / 'own.py'}:fault", "stateless_normal")
    assert draws.status == PASS
    assert stream.status == NOTE and stream.figures == {"same_stream": True, "max_ulp_from_cpu": 1}


def test_names_are_unique_and_quick_is_a_part_of_all():
    names = [(each.op, each.dtype, each.case) for each in probes(Choice())]
    quick = [(each.op, each.dtype, each.case) for each in probes(Choice(quick=True))]
    assert len({*names}) == len(names)
    assert {*quick} < {*names}
