"""Messages of TensorFlow: those that it makes here, and the form of those that a GPU makes."""

from __future__ import annotations

import pytest
import tensorflow as tf

from diag.engine.graphs.tf_errors import PREAMBLE, reason_of

CAUSE = (
    "The GPU implementation of SparseSoftmaxCrossEntropyWithLogits that would have been executed is not "
    "deterministic. Note that the Python API uses an alternative, deterministic, GPU-accelerated path when "
    "determinism is enabled."
)
FRAME = '  File "model.py", line 3, in call\n\n    return tf.nn.softmax(x)\n'


@pytest.mark.parametrize("trace", ["<stack traces unavailable>", FRAME, f"{FRAME}\n{FRAME}", "  in call\nNode: 'a/b'"])
@pytest.mark.parametrize("num_nodes", [0, 1, 2])
def test_the_cause_comes_after_the_nodes_and_is_kept_whole(trace, num_nodes):
    nodes = f"Detected at node a/b defined at (most recent call last):\n{trace}\n" * num_nodes
    said = f"{PREAMBLE}\n\n{nodes}{CAUSE}\n\t [[{{{{node a/b}}}}]] [Op:__inference_step_12]"
    assert reason_of(tf.errors.UnimplementedError(None, None, said)) == CAUSE


def test_a_step_that_fails_as_it_runs():
    @tf.function
    def step(x, index):
        return tf.gather(x, index)

    with pytest.raises(tf.errors.OpError) as caught:
        step(tf.zeros(4), tf.constant(9))
    assert str(caught.value.message).startswith(PREAMBLE)  # the form that is meant
    assert reason_of(caught.value) == "indices = 9 is not in [0, 4)"


def test_an_op_that_fails_eagerly():
    with pytest.raises(tf.errors.OpError) as caught:
        tf.linalg.matmul(tf.zeros([2, 3]), tf.zeros([2, 3]))
    assert reason_of(caught.value) == "Matrix size-incompatible: In[0]: [2,3], In[1]: [2,3]"


def test_what_xla_cannot_compile():
    @tf.function(jit_compile=True)
    def step(x):
        return tf.strings.length(tf.strings.as_string(x))

    with pytest.raises(tf.errors.OpError) as caught:
        step(tf.zeros(4))
    said = reason_of(caught.value)
    assert "No registered 'AsString' OpKernel" in said and "conversion failed" in said
    assert "File" not in said and "\n" not in said and "created at" not in said


def test_any_other_exception_says_what_it_says():
    assert reason_of(ValueError("of two\n  lines")) == "of two lines"
    assert reason_of(NotImplementedError()) == "NotImplementedError"
