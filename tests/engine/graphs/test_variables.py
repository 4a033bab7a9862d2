"""Reading and writing variables by the ops themselves, held against `read_value` and `assign`."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from diag.engine.graphs.variables import State, VariableSet, read, write

DTYPES = (tf.float32, tf.float16, tf.bfloat16, tf.float64, tf.int32, tf.int64, tf.bool)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda dtype: dtype.name)
def test_what_is_written_is_read_in_every_dtype(dtype):
    variable = tf.Variable(tf.zeros((2, 3), dtype))
    value = np.arange(6).reshape(2, 3).astype(dtype.as_numpy_dtype)
    write(variable, value)
    assert read(variable).dtype == dtype
    np.testing.assert_array_equal(read(variable), value)
    np.testing.assert_array_equal(variable.read_value(), value)
    write(variable, tf.zeros((2, 3), dtype))
    np.testing.assert_array_equal(variable.read_value(), np.zeros((2, 3), dtype.as_numpy_dtype))


def test_later_writes_leave_what_was_read():
    variable = tf.Variable(np.ones(1000, np.float32))
    before = read(variable)
    write(variable, np.full(1000, 3, np.float32))
    variable.assign_add(tf.ones(1000))
    np.testing.assert_array_equal(before, np.ones(1000))
    np.testing.assert_array_equal(read(variable), np.full(1000, 4))


def test_what_is_changed_after_it_was_written_leaves_the_variable():
    variable, value = tf.Variable(np.zeros(1000, np.float32)), np.ones(1000, np.float32)
    write(variable, value)
    value[:] = 7
    np.testing.assert_array_equal(read(variable), np.ones(1000))


def test_every_bit_of_a_nan_and_of_a_negative_zero_is_kept():
    value = np.array([0x7FC01234, 0x80000000, 0x00000001], np.uint32).view(np.float32)
    variable = tf.Variable(np.zeros(3, np.float32))
    write(variable, value)
    assert read(variable).numpy().tobytes() == value.tobytes()


def test_another_shape_or_dtype_is_an_error_and_leaves_the_value():
    variable = tf.Variable(np.ones(3, np.float32))
    with pytest.raises(Exception, match="shape"):
        write(variable, np.zeros(4, np.float32))
    with pytest.raises(Exception, match="dtype"):
        write(variable, tf.zeros(3, tf.float64))
    np.testing.assert_array_equal(read(variable), np.ones(3))


def test_what_is_read_is_where_the_variable_is():
    with tf.device("CPU:0"):
        variable = tf.Variable(1.0)
    assert read(variable).device == variable.device


def _one_of_each_dtype():
    return VariableSet([tf.Variable(tf.zeros((2, 3), dtype)) for dtype in DTYPES])


def test_all_at_once_are_what_each_by_itself_is():
    variables = _one_of_each_dtype()
    values = [np.arange(i, 6 + i).reshape(2, 3).astype(d.as_numpy_dtype) for i, d in enumerate(DTYPES)]
    variables.write(values)
    state = variables.read()
    for variable, value, found, array in zip(variables.variables, values, state, state.arrays, strict=True):
        assert found.dtype == variable.dtype and found.device == variable.device
        np.testing.assert_array_equal(found, value)
        np.testing.assert_array_equal(array, value)
        np.testing.assert_array_equal(variable.read_value(), value)


def test_a_state_stays_as_it_was_when_all_are_written_or_changed():
    variables = _one_of_each_dtype()
    before = variables.read()
    variables.write([tf.ones((2, 3), dtype) for dtype in DTYPES])
    variables.variables[0].assign_add(tf.ones((2, 3)))
    assert not any(array.any() for array in before.arrays)
    assert all(array.all() for array in variables.read().arrays)


def test_all_at_once_of_another_shape_or_dtype_or_number_is_an_error():
    variables = VariableSet([tf.Variable(np.ones(3, np.float32)) for _ in range(2)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="shape"):
        variables.write([np.ones(3, np.float32), np.ones(4, np.float32)])
    with pytest.raises(tf.errors.InvalidArgumentError, match="float"):
        variables.write([tf.ones(3), tf.ones(3, tf.float64)])
    with pytest.raises(ValueError, match="zip"):
        variables.write([tf.ones(3)])


def test_no_variables_are_an_empty_state():
    nothing = VariableSet([])
    nothing.write([])
    assert nothing.read() == State()
