"""Which truth an element is held to where a format's range makes several."""

from __future__ import annotations

import numpy as np

from diag.engine.truth.format_range import nearest


def test_an_element_is_held_to_the_truth_nearest_to_it_and_to_infinity_only_where_a_format_comes_to_it():
    truth = np.array([1.0, 1.0, 1.0, 1.0, np.inf, np.inf])
    as_written = np.array([1.0, np.inf, np.inf, 0.0, 2.0, np.nan])
    x = np.array([np.inf, np.nan, 1.1, 0.1, 2.2, -np.inf], np.float16)
    assert np.array_equal(
        nearest(x, [truth, as_written]), [1.0, np.nan, 1.0, 0.0, 2.0, -np.inf], equal_nan=True
    )  # the first is infinite where nothing is: it stays wrong
