"""The truth lane against a training step written down in NumPy, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.editing import make_node
from diag.engine.lanes.lane import CompiledSteps, Lane
from diag.engine.lanes.step_results import UnitInputs
from diag.engine.step.program import Program
from diag.engine.step.tracing import flat_batch, trace
from diag.engine.step.units import Unit, whole_step
from diag.engine.truth.float64_graph import Promotion
from diag.engine.truth.noise import Noise
from diag.engine.truth.rounding_nodes import OperandRounding, rounding_nodes
from diag.engine.truth.unit_truth import UnitTruth
from diag.machine.places import parse_place
from diag.numerics.formats import TF32, Rounding, round_to
from tests import zoo

Arrays = dict[str, np.ndarray]
STEPS_DONE = 2  # so that the slots are not zero


@dataclass
class Step:
    """A step of the perceptron in the three lanes that matter here."""

    program: Program
    unit: Unit
    truth: UnitTruth
    batch: list[Any]
    state: list[Any]
    float32: list[Any]

    def names(self) -> list[str]:
        """What each output of the unit is: loss, gradient of NAME, or the variable it leaves."""
        gradients = {port: f"gradient of {name}" for name, port in self.program.gradients.items()}
        layers = {self.program.layer_outputs[layer][0]: f"output of {layer}" for layer in ("hidden", "logits")}
        known = {**layers, **gradients, self.program.loss: "loss"}
        outputs = [known[port] for port in self.unit.outputs]
        return [*outputs, *(self.program.variables[index].name for index in self.unit.writes)]

    def values(self) -> Arrays:
        """The state before the step, as float64."""
        return {
            spec.name: np.asarray(value, np.float64)
            for spec, value in zip(self.program.variables, self.state, strict=True)
        }


@pytest.fixture(scope="module")
def step() -> Step:
    batch = zoo.batch_for(zoo.perceptron)
    program = trace(zoo.made(zoo.perceptron), batch)
    lane = Lane.at("reference", parse_place("CPU:0"), program, 0)
    feeds = [tf.constant(x) for x in flat_batch(batch)]
    watched = (
        *(port for ports in program.layer_outputs.values() for port in ports), *program.gradients.values(),
    )  # fmt: skip
    unit, steps = whole_step(program, watched), CompiledSteps(lane, program)
    for _ in range(STEPS_DONE):
        steps.run(feeds, ())
    state = lane.state()
    found = steps.run(feeds, unit.outputs)
    float32 = [*(found[port] for port in unit.outputs), *(lane.state()[index] for index in unit.writes)]
    return Step(program, unit, UnitTruth(unit, lane.variables), feeds, state, float32)


def single(value: float) -> float:
    """A constant of the step: Keras rounds it to float32, and the truth lane takes it as it then is."""
    return float(np.float32(value))


def by_hand(step: Step) -> Arrays:
    """Forward, loss, gradients and Adam's update of a perceptron."""
    v, (x, labels) = step.values(), (t.numpy() for t in step.batch)
    x, batch = x.astype(np.float64), len(labels)
    # forward: (batch, 5) -> (batch, 8) -> (batch, 3)
    hidden = np.maximum(x @ v["hidden/kernel"] + v["hidden/bias"], 0.0)
    logits = hidden @ v["logits/kernel"] + v["logits/bias"]
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponentials / exponentials.sum(axis=1, keepdims=True)
    found = {
        "output of hidden": hidden, "output of logits": logits,
        "loss": -np.mean(np.log(probabilities[np.arange(batch), labels])),
    }  # fmt: skip
    # backward
    of_logits = (probabilities - np.eye(3)[labels]) / batch
    of_hidden = (of_logits @ v["logits/kernel"].T) * (hidden > 0)
    gradients = {
        "logits/kernel": hidden.T @ of_logits, "logits/bias": of_logits.sum(axis=0),
        "hidden/kernel": x.T @ of_hidden, "hidden/bias": of_hidden.sum(axis=0),
    }  # fmt: skip
    found |= {f"gradient of {name}": gradient for name, gradient in gradients.items()}
    # Adam (Kingma and Ba 2015), in the form of their section 2: the step size takes both corrections
    time = STEPS_DONE + 1
    first, second = single(0.9), single(0.999)
    size = single(0.001) * np.sqrt(1 - second**time) / (1 - first**time)
    for name, gradient in gradients.items():
        momentum, velocity = v[f"optimizer/{name}/momentum"], v[f"optimizer/{name}/velocity"]
        momentum = momentum + (gradient - momentum) * single(1 - 0.9)
        velocity = velocity + (gradient**2 - velocity) * single(1 - 0.999)
        found[f"optimizer/{name}/momentum"], found[f"optimizer/{name}/velocity"] = momentum, velocity
        found[name] = v[name] - momentum * size / (np.sqrt(velocity) + single(1e-7))
    return found


def promoted(step: Step, forward: list[Any]) -> Arrays:
    return dict(zip(step.names(), step.truth.outputs(UnitInputs(step.batch, step.state, forward)), strict=True))


def test_the_promoted_step_is_the_one_written_down(step):
    truth = promoted(step, step.float32)
    # the backward pass is taken at the lane's own forward outputs, the optimizer at its gradients: give it float64's
    for _ in range(2):
        truth = promoted(step, [tf.constant(truth[name]) for name in step.names()])
    expected = by_hand(step)
    assert set(expected) <= set(truth)
    for name, value in expected.items():
        np.testing.assert_allclose(truth[name], value, rtol=1e-12, atol=1e-15, err_msg=name)


def test_the_compiled_step_is_within_float32_of_it(step):
    """And no nearer: were truth float32 in disguise, the two would agree to the bit."""
    expected = by_hand(step)
    for name, value in zip(step.names(), step.float32, strict=True):
        if name in expected:
            np.testing.assert_allclose(value, expected[name], rtol=2e-5, atol=1e-7, err_msg=name)
    index = step.names().index("output of logits")
    assert np.abs(step.float32[index].numpy() - expected["output of logits"]).max() > 1e-10


def test_the_backward_pass_takes_the_forward_pass_it_is_given(step):
    """A lane that rounded to the other side of zero is right to follow its own decision."""
    names = step.names()
    given = list(step.float32)
    hidden = names.index("output of hidden")
    given[hidden] = tf.zeros_like(given[hidden])  # every unit is off
    truth = promoted(step, given)
    assert not truth["gradient of hidden/kernel"].any()
    assert not truth["gradient of logits/kernel"].any()
    assert truth["gradient of logits/bias"].any()
    np.testing.assert_allclose(truth["loss"], by_hand(step)["loss"], rtol=1e-12)


def test_one_rounding_of_everything_moves_truth_by_about_a_rounding(step):
    inputs = UnitInputs(step.batch, step.state, step.float32)
    truth = step.truth.outputs(inputs)
    spreads = step.truth.spreads(inputs, truth)
    loss = step.names().index("loss")
    assert 1e-3 * 2.0**-24 < spreads[loss].rms < 1e2 * 2.0**-24
    assert spreads[loss].rms <= spreads[loss].max


def test_a_spread_does_not_hang_on_those_measured_before(step):
    inputs = UnitInputs(step.batch, step.state, step.float32)
    unit, truth = UnitTruth(step.unit, step.program.variables), step.truth.outputs(inputs)
    assert unit.spreads(inputs, truth) == unit.spreads(inputs, truth)
    assert unit.spreads(inputs, truth, [0]) == {0: unit.spreads(inputs, truth)[0]}


def test_the_spread_of_some_outputs_is_what_it_is_among_all_of_them(step):
    """Each result has a stream of its own, so that leaving out what leads to others changes nothing."""
    inputs = UnitInputs(step.batch, step.state, step.float32)
    truth = step.truth.outputs(inputs)
    wanted = [step.names().index(name) for name in ("gradient of hidden/bias", "optimizer/logits/kernel/momentum")]
    alone = UnitTruth(step.unit, step.program.variables).spreads(inputs, truth, wanted)
    among_all = UnitTruth(step.unit, step.program.variables).spreads(inputs, truth)
    assert list(alone) == wanted and len(among_all) == len(truth)
    assert {index: among_all[index] for index in wanted} == alone
    assert all(spread.max > 0 for spread in alone.values())


def test_rounding_of_products_and_sums_is_most_of_it(step):
    inputs = UnitInputs(step.batch, step.state, step.float32)
    truth = step.truth.outputs(inputs)
    wanted = [step.names().index(f"gradient of {name}") for name in ("hidden/bias", "hidden/kernel", "logits/kernel")]
    parts = step.truth.spreads(inputs, truth, wanted, Noise.PRODUCTS)
    wholes = step.truth.spreads(inputs, truth, wanted)
    for index in wanted:
        assert 0.2 * wholes[index].rms < parts[index].rms < 1.5 * wholes[index].rms, step.names()[index]


def test_what_rounding_of_the_inputs_does_is_a_part_of_what_rounding_does(step):
    inputs = UnitInputs(step.batch, step.state, step.float32)
    truth = step.truth.outputs(inputs)
    parts, wholes = step.truth.spreads_of_inputs(inputs, truth), step.truth.spreads(inputs, truth)
    assert parts[step.names().index("output of hidden")].rms > 0
    for index, name in enumerate(step.names()):
        assert parts[index].rms <= 1.5 * wholes[index].rms, name  # samples of either, not the same ones


def promote(
    function: Any, *specs: tf.TensorSpec, noise: Noise | None = None, own_decisions: bool = False
) -> tuple[Promotion, Any]:
    """A function in float64, and what its promotion noted."""
    from diag.engine.graphs.graph import graph_of

    concrete = tf.function(function, autograph=False).get_concrete_function(*specs)
    graph, graph_def = graph_of(concrete.graph), concrete.graph.as_graph_def()
    promotion = Promotion(graph, {}, noise, own_decisions=own_decisions)
    wide = promotion.apply(graph_def)
    noisy = {f"lockstep_wide/{port.node}/noise{port.index}" for port in graph.outputs}
    (output,) = (str(port) for port in graph.outputs)
    output = next((f"{node.name}:0" for node in wide.node if node.name in noisy), output)

    def run(*arrays: np.ndarray) -> np.ndarray:
        with tf.Graph().as_default():
            feeds = {
                name: tf.constant(array.astype(np.float64) if array.dtype.kind == "f" else array)
                for name, array in zip(graph.inputs, arrays, strict=True)
            }
            kept = type(wide)()
            kept.CopyFrom(wide)
            kept.ClearField("node")
            kept.node.extend(node for node in wide.node if node.name not in feeds)
            (result,) = tf.graph_util.import_graph_def(kept, input_map=feeds, return_elements=[output], name="")
            return tf.compat.v1.Session().run(result)

    return promotion, run


def test_a_cast_to_a_narrower_dtype_still_rounds():
    _, run = promote(lambda x: tf.cast(tf.cast(x, tf.bfloat16), tf.float32) * 3.0, tf.TensorSpec((1,), tf.float32))
    (found,) = run(np.array([1 + 2.0**-7 + 2.0**-12], np.float32))
    assert found == 3 * (1 + 2.0**-7)  # bfloat16 has 8 bits; the product is not rounded


def test_a_product_is_not_rounded():
    _, run = promote(lambda x: x * x, tf.TensorSpec((1,), tf.float32))
    (found,) = run(np.array([1 + 2.0**-20], np.float32))
    assert found == 1 + 2.0**-19 + 2.0**-40


def half(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(x, tf.float16)


def single_again(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(half(x), tf.float32)


@pytest.mark.parametrize(
    "function, roundings, unit",
    [
        (lambda x: x * 3.0, 2, 2.0**-24),  # the input and the product
        (lambda x: half(x) * half(x), 3, 2.0**-11),  # two casts and the product
        (lambda x: single_again(x) * 3.0, 1, 2.0**-11),  # the cast; the product in float32 adds next to nothing
        (lambda x: half(x * 3.0), 1, 2.0**-11),
    ],
    ids=["float32", "float16", "a cast and back", "a cast at the end"],
)
def test_noise_is_of_the_format_that_an_op_computes_in(function, roundings, unit):
    """Of whole numbers, which every format holds: what moves them is the noise alone."""
    x = np.full(4096, 2.0, np.float32)
    _, run = promote(function, tf.TensorSpec(x.shape, tf.float32), noise=Noise.ROUNDING)
    _, plain = promote(function, tf.TensorSpec(x.shape, tf.float32))
    moved = np.max(np.abs(run(x) / plain(x) - 1))
    assert 0.7 * roundings * unit < moved <= 1.01 * roundings * unit


def test_where_terms_cancel_a_sum_may_lose_a_part_of_what_was_summed():
    """1,024 terms of 1 and -1 in turn: the sum is 0, and its noise is a part of 1,024."""
    x = np.tile([1.0, -1.0], (64, 512)).astype(np.float32)
    _, run = promote(lambda v: tf.reduce_sum(v, 1), tf.TensorSpec(x.shape, tf.float32), noise=Noise.ROUNDING)
    moved = np.abs(run(x))
    of_inputs = 2.0**-24 * np.sqrt(1024 / 3)  # uniform noise in each of them
    assert 0.7 * 1024 * 2.0**-24 < np.max(moved) < 1024 * 2.0**-24 + 5 * of_inputs


def test_noise_leaves_infinities_where_they_are():
    """As in a mask of attention: -inf and its noise would be NaN in half of the runs."""
    x = np.array([-np.inf, np.inf, 1.0] * 32, np.float32)
    _, run = promote(lambda v: v - 2.0, tf.TensorSpec(x.shape, tf.float32), noise=Noise.ROUNDING)
    found = run(x)
    assert np.array_equal(found[np.isinf(x)], x[np.isinf(x)]) and np.isfinite(found[~np.isinf(x)]).all()


def test_an_op_without_a_float64_kernel_is_named_or_defined():
    def bicubic(x: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.ResizeBicubic(images=x, size=[2, 3]) + 1.0  # its results are float32

    promotion, run = promote(bicubic, tf.TensorSpec((1, 1, 3, 1), tf.float32))
    assert promotion.unpromoted == {"ResizeBicubic"}
    x = np.array([[[[1.0], [2.0], [3.0]]]], np.float32)
    np.testing.assert_array_equal(run(x), bicubic(tf.constant(x)).numpy().astype(np.float64))
    promotion, run = promote(lambda x: tf.raw_ops.LRN(input=x) - 1.0, tf.TensorSpec(x.shape, tf.float32))
    found = run(x)
    assert not promotion.unpromoted and found.dtype == np.float64
    np.testing.assert_allclose(found, x / np.sqrt(1 + np.square(x.astype(np.float64))) - 1, rtol=1e-14)


def test_whole_numbers_stay_whole_numbers():
    promotion, run = promote(lambda x: x // 2, tf.TensorSpec((2,), tf.int32))
    found = run(np.array([5, 7], np.int32))
    assert (found.dtype, found.tolist(), promotion.unpromoted) == (np.int32, [2, 3], set())


@pytest.mark.parametrize("mode", get_args(Rounding))
def test_operands_are_rounded_in_the_graph_as_in_numpy(mode):
    ties = np.float64([1, -1, 3]) + 2.0**-11
    x = np.concatenate([np.random.default_rng(0).standard_normal(1000), ties, -ties, [0.0, 2.0**-60]])
    made = tf.compat.v1.GraphDef()
    made.node.append(make_node("x", "Placeholder", [], dtype=tf.float64))
    made.node.extend(rounding_nodes("rounded", "x:0", OperandRounding(TF32.precision, mode)))

    @tf.function
    def rounded(given):
        return tf.graph_util.import_graph_def(made, {"x": given}, ["rounded:0"], name="")[0]

    np.testing.assert_array_equal(rounded(tf.constant(x)).numpy(), round_to(x, TF32, mode))


def test_a_closed_gate_passes_zero_by_its_own_decision():
    """And makes NaN of what is infinite by TensorFlow's own kernel on the CPU, which multiplies by zero."""
    spec = tf.TensorSpec([3], tf.float16)
    gradients, features = np.array([np.inf, np.inf, 2], np.float16), np.array([1, 7, 7], np.float16)

    def gated(g: Any, f: Any) -> Any:
        return tf.raw_ops.Relu6Grad(gradients=g, features=f)

    np.testing.assert_array_equal(
        promote(gated, spec, spec, own_decisions=True)[1](gradients, features), [np.inf, 0, 0]
    )
    np.testing.assert_array_equal(promote(gated, spec, spec)[1](gradients, features), [np.inf, np.nan, 0])

    def of_relu(g: Any, f: Any) -> Any:
        return tf.raw_ops.ReluGrad(gradients=g, features=f)

    features = np.array([np.inf, np.nan, -1], np.float16)  # open, closed, closed
    np.testing.assert_array_equal(
        promote(of_relu, spec, spec, own_decisions=True)[1](gradients, features), [np.inf, 0, 0]
    )
