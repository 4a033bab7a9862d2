"""Plans: what a choice asks for; what a place has no kernel for is a reading and no crash; reasons in plain words."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.tf_errors import reason
from diag.errors import UserError
from diag.machine.places import parse_place
from probes.frame.device import DeviceUnderTest
from probes.frame.device_report import FAIL, PASS, UNSUPPORTED, Measurement
from probes.frame.plan import BUG, FAMILIES, Choice, Probe, carried_out, planned

PROBE = Probe("exact", "MatMul", "float16", "sizes", lambda device: [])


@pytest.mark.parametrize(
    "choice, wanted",
    [
        (Choice(), True),
        (Choice(ops=("matmul",)), True),
        (Choice(ops=("Conv*", "Mat*")), True),
        (Choice(ops=("Conv*",)), False),
        (Choice(dtypes=("float32",)), False),
        (Choice(dtypes=("float32", "float16"), families=("exact",)), True),
        (Choice(families=("random",)), False),
    ],
)
def test_choices(choice, wanted):
    assert choice.wants(PROBE) is wanted


def raising(error: Exception):
    def run(device):
        yield Measurement("exact", "MatMul", "float16", "first", PASS, "right")
        raise error

    return run


@pytest.mark.parametrize(
    "error, status",
    [
        (tf.errors.UnimplementedError(None, None, "no"), UNSUPPORTED),
        (tf.errors.UnknownError(None, None, "CUDNN_STATUS_BAD_PARAM"), UNSUPPORTED),
        (tf.errors.ResourceExhaustedError(None, None, "no room"), FAIL),
        (MemoryError(), FAIL),
    ],
)
def test_what_cannot_be_computed_is_a_reading_after_those_that_could(error, status):
    probe = Probe("exact", "MatMul", "float16", "sizes", raising(error))
    begun: list[Probe] = []
    found = list(carried_out([probe], DeviceUnderTest(parse_place("CPU:0/eager")), begun.append))
    assert [each.status for each in found] == [PASS, status]
    assert begun == [probe]


def test_a_bug_of_ours_costs_one_probe_and_says_so(capsys):
    broken = Probe("exact", "MatMul", "float16", "sizes", raising(KeyError("ours")))
    sound = Probe(
        "exact", "Sum", "float16", "", lambda device: [Measurement("exact", "Sum", "float16", "", PASS, "right")]
    )
    found = list(carried_out([broken, sound], DeviceUnderTest(parse_place("CPU:0/eager")), lambda each: None))
    assert [each.status for each in found] == [PASS, UNSUPPORTED, PASS]
    assert found[1].figures == {BUG: True} and "KeyError" in found[1].says
    assert "Traceback" in capsys.readouterr().err


def test_a_users_error_ends_it_all():
    with pytest.raises(UserError):
        list(carried_out([Probe("exact", "MatMul", "float16", "sizes", raising(UserError("theirs")))],
                         DeviceUnderTest(parse_place("CPU:0/eager")), lambda each: None))  # fmt: skip


@pytest.mark.parametrize(
    "text, said",
    [
        ("{{function_node __wrapped__X_device_}} Non-XLA devices do not. [Op:X]", "Non-XLA devices do not."),
        ("Graph execution error:\n\nDetected at node a (most):\n<stack traces unavailable>\nNo such.", "No such."),
        ("Detected unsupported operations when trying to compile f_1[]: Foo (No registered 'Foo' OpKernel for XLA_CPU)",
         "XLA has no kernel of Foo"),
        ('Could not find device for node: {{node a}} = MaxPool3D[T=DT_HALF, padding="VALID"]\nAll kernels',
         "no kernel of MaxPool3D for float16"),
    ],
)  # fmt: skip
def test_reasons(text, said):
    assert reason(tf.errors.InvalidArgumentError(None, None, text)) == said


def test_reasons_name_no_function_that_is_called_otherwise_in_the_next_run():
    """As TensorFlow says it, with `__inference_run_123` in it."""
    device = DeviceUnderTest(parse_place("CPU:0/xla"))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        device.run(lambda seed: tf.random.stateless_poisson([3], seed, 3.0), np.array([1, 2], np.int32))
    assert reason(caught.value) == "XLA has no kernel of StatelessRandomPoisson"


def test_every_family_has_probes_and_a_quick_card_is_a_part_of_the_whole():
    everything = {(p.family, p.op, p.dtype) for p in planned(Choice())}
    quick = {(p.family, p.op, p.dtype) for p in planned(Choice(quick=True))}
    assert {each[0] for each in everything} == {each[0] for each in quick} == {*FAMILIES}
    assert quick <= everything
