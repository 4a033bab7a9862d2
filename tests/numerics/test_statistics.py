"""Statistics against a slow oracle in plain Python, and against values computed by hand."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diag.common.jsonable import json_safe
from diag.numerics import passes
from diag.numerics.errors_against_truth import scaled_error
from diag.numerics.formats import FLOAT32, TF32, format_of, round_to
from diag.numerics.statistics import HISTOGRAM_EDGES, ClassCounts, against_truth, compare
from diag.numerics.ulp import ulp_distance, ulp_error

DTYPES = [np.float16, ml_dtypes.bfloat16, np.float32, np.float64]
MIN_NORMAL = np.float32(2.0**-126)


def array32(*values):
    return np.array(values, np.float32)


# the oracle: exact where it counts, one element at a time


def steps_from_zero(value: float, format, flushed: bool) -> int:
    """The place on the line, by counting the numbers below: whole binades first."""
    if flushed and abs(value) < format.smallest_normal:
        return 0
    if value == 0:
        return 0
    exponent = max(math.frexp(value)[1] - 1, format.min_exponent)
    spacing = Fraction(2) ** (exponent - format.precision + 1)
    binades = exponent - format.min_exponent
    steps = int(Fraction(abs(value)) / spacing) + binades * (1 << (format.precision - 1))
    if flushed:
        steps -= (1 << (format.precision - 1)) - 1
    return int(math.copysign(1, value)) * steps


def as_float(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def root(value: Fraction) -> float:
    """The square root, also of what float64 cannot hold."""
    if value == 0 or value == math.inf:
        return float(value)
    shift = (value.numerator.bit_length() - value.denominator.bit_length()) // 2
    return math.ldexp(math.sqrt(value / Fraction(4) ** shift), shift)


def class_of(r: float, x: float, smallest_normal: float) -> str:
    if math.isnan(r) or math.isnan(x):
        return "nan_nan" if math.isnan(r) and math.isnan(x) else "nan_number"
    if math.isinf(r) or math.isinf(x):
        both = math.isinf(r) and math.isinf(x)
        return ("inf_inf" if r == x else "inf_opposite") if both else "inf_finite"
    if r == 0 and x == 0:
        return "both_zero"
    if r * math.copysign(1, x) < 0 and x != 0:
        return "opposite_signs"
    if any(v != 0 and abs(v) < smallest_normal for v in (r, x)):
        return "subnormals"
    return "ordinary"


def truth_error(x: float, r: float, format) -> tuple[Fraction, bool]:
    """Exact (x - r) / ulp(r), and whether x is not r rounded to nearest, ties to even."""
    exponent = math.frexp(r)[1] - 1 if r else format.min_exponent
    if abs(math.frexp(r)[0]) == 0.5:
        exponent -= 1
    spacing = Fraction(2) ** (max(exponent, format.min_exponent) - format.precision + 1)
    error = (Fraction(x) - Fraction(r)) / spacing
    odd = Fraction(x) / spacing % 2 == 1
    return error, abs(error) > Fraction(1, 2) or (abs(error) == Fraction(1, 2) and odd)


def oracle(r, x, errors_of, format, flushed=False):
    r, x = ([float(v) for v in np.asarray(a).reshape(-1)] for a in (r, x))
    classes = dict.fromkeys(ClassCounts.__dataclass_fields__, 0)
    errors, pairs, num_unequal, mismatch, num_zero_sign = {}, [], 0, None, 0
    for i, (a, b) in enumerate(zip(r, x, strict=True)):
        name = class_of(a, b, format.smallest_normal)
        if name != "ordinary":
            classes[name] += 1
        num_zero_sign += name == "both_zero" and math.copysign(1, a) != math.copysign(1, b)
        if name in ("nan_number", "inf_opposite", "inf_finite"):
            num_unequal += 1
            mismatch = i if mismatch is None else mismatch
        if math.isfinite(a) and math.isfinite(b):
            if flushed:
                a, b = (0.0 if abs(v) < format.smallest_normal else v for v in (a, b))
            errors[i], unequal = errors_of(b, a)
            num_unequal += unequal
            pairs.append((Fraction(a), Fraction(b)))
    result = {"classes": classes, "num_unequal": num_unequal, "num_zero_sign": num_zero_sign}
    result |= {"size": len(r), "num_compared": len(errors)}
    errors = {i: Fraction(float(e)) for i, e in errors.items()}  # the difference is rounded once
    sizes = [abs(e) for e in errors.values()]
    worst = max(errors, key=lambda i: abs(errors[i]), default=None)
    if worst is not None and errors[worst] == 0:
        worst = None
    result["worst_index"] = worst if mismatch is None else mismatch
    if sizes:
        result["max"] = as_float(max(sizes))
        result["mean"] = as_float(sum(sizes) / len(sizes))
        result["bias"] = as_float(sum(errors.values()) / len(sizes))
        result["rms"] = root(sum(s * s for s in sizes) / len(sizes))
        result["p50"], result["p99"] = (sorted(sizes)[math.ceil(len(sizes) * q / 100) - 1] for q in (50, 99))
    relative = [abs(b - a) / abs(a) for a, b in pairs if a]
    result["max_relative_error"] = as_float(max(relative, default=0))
    result["mean_relative_error"] = as_float(sum(relative) / max(len(relative), 1))
    result["num_zero_reference"] = sum(a == 0 for a, _ in pairs)
    result["max_absolute_difference"] = as_float(max((abs(b - a) for a, b in pairs), default=0))
    squares = sum(a * a for a, _ in pairs)
    differences = sum((b - a) ** 2 for a, b in pairs)
    ratio = differences / squares if squares else math.inf if differences else Fraction(0)
    result["normwise_relative_error"] = root(ratio)
    result["histogram"] = [0] * len(HISTOGRAM_EDGES)
    for size in sizes:
        result["histogram"][sum(size >= edge for edge in HISTOGRAM_EDGES) - 1] += 1
    return result


def check(actual, expected):
    # Sums of at most a few hundred terms, each rounded once or twice: 1e-12 is thousands of roundings.
    for name in ("mean", "rms", "bias", "normwise_relative_error", "mean_relative_error"):
        if name in expected and not (name == "mean_relative_error" and math.isinf(expected[name] * actual.size)):
            scale = expected["mean"] if name == "bias" else expected[name]
            assert getattr(actual, name) == pytest.approx(expected[name], rel=1e-12, abs=1e-12 * scale), name
    for name in ("p50", "p99"):
        if name in expected:
            value = expected[name]
            low = value if value == int(value) and value <= 128 else value * Fraction(64, 65)
            low = 0 if value < 2**-32 else min(low, 2**64 * (1 - 2.0**-7))  # the last bin's lower edge
            assert low <= getattr(actual, name) <= value, name
    for name in ("max", "max_relative_error", "max_absolute_difference"):
        if name in expected:
            assert getattr(actual, name) == pytest.approx(expected[name], rel=1e-15), name
    for name in ("size", "num_unequal", "num_zero_sign", "num_compared", "num_zero_reference"):
        assert getattr(actual, name) == expected[name], name
    assert vars(actual.classes) == expected["classes"]
    assert actual.histogram.tolist() == expected["histogram"]
    worst = expected["worst_index"]
    assert actual.worst_index == (None if worst is None else (worst,))


def pair_oracle(r, x, flushed=False):
    format = format_of(r.dtype)

    def error(b, a):
        distance = steps_from_zero(b, format, flushed) - steps_from_zero(a, format, flushed)
        return Fraction(distance), distance != 0

    return oracle(r, x, error, format, flushed)


NEAR_THE_EDGES = [0, -0.0, math.inf, -math.inf, math.nan, 1e-40, 6e-8, -6e-8, 2.0**-126, 2.0**-14, -(2.0**-14)]


def mixed(rng, sources, weights):
    """Each element from one of the sources.  By bits: NumPy 2.0's select crashes on bfloat16."""
    dtype, size = sources[0].dtype, sources[0].size
    which = rng.choice(len(sources), size, p=rng.dirichlet(weights))
    bits = [source.view(f"u{dtype.itemsize}") for source in sources]
    return np.select([which == i for i in range(len(sources))], bits).astype(bits[0].dtype).view(dtype)


def some_tensor(rng, dtype, size):
    """What a tensor may hold: any encoding, ordinary numbers, and what is near the edges, all mixed."""
    sources = (
        rng.integers(0, 256, size * np.dtype(dtype).itemsize, np.uint8).view(dtype),
        rng.standard_normal(size).astype(dtype),
        rng.choice(NEAR_THE_EDGES, size).astype(dtype),
    )
    return mixed(rng, sources, [1, 2, 1])


def some_pair(rng, dtype, size):
    """Two tensors, equal, a few steps apart, or unrelated in any proportion."""
    r, other = some_tensor(rng, dtype, size), some_tensor(rng, dtype, size)
    bits = np.dtype(f"i{np.dtype(dtype).itemsize}")
    near = (r.view(bits) + rng.integers(-3, 4, size).astype(bits)).view(dtype)
    return r, mixed(rng, (r, near, other), [1, 1, 1])


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60), st.booleans())
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_pairs_are_as_the_oracle_has_them(dtype, seed, size, flushed):
    r, x = some_pair(np.random.default_rng(seed), dtype, size)
    check(compare(r, x, flushed), pair_oracle(r, x, flushed))


@pytest.mark.parametrize("dtype", DTYPES[:3])
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 60))
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
def test_against_truth_is_as_the_oracle_has_it(dtype, seed, size):
    rng = np.random.default_rng(seed)
    r, x = some_pair(rng, dtype, size)
    format = format_of(dtype)
    offset = rng.choice([0, 0, 0.5, -0.5, 0.25, 1e-9], size)  # in spacings: exact ties among them
    with np.errstate(invalid="ignore"):
        wide = r.astype(np.float64)
        truth = wide + np.where(np.isfinite(wide), offset * np.maximum(abs(wide), format.smallest_normal), 0) * (
            2.0 ** (1 - format.precision)
        )
        overflowing = np.isinf(x.astype(np.float64)) & (np.abs(truth) >= format.overflow_threshold)
    expected = oracle(
        np.where(overflowing, np.copysign(np.inf, truth), truth), x, lambda b, a: truth_error(b, a, format), format
    )
    check(against_truth(x, truth), expected)


def test_float64_against_truth():
    rng = np.random.default_rng(0)
    r, x = some_pair(rng, np.float64, 200)
    finite = np.isfinite(r) & np.isfinite(x) & (np.abs(r) < 1e100) & (np.abs(x) < 1e100) & (np.abs(r) > 1e-100)
    r, x = r[finite], x[finite]
    format = format_of(np.float64)
    assert r.size > 20
    check(against_truth(x, r), oracle(r, x, lambda b, a: truth_error(b, a, format), format))


@pytest.mark.parametrize("flushed", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_compiled_errors_and_distances_are_those_of_ulp(dtype, flushed):
    """Two implementations of one definition, around zero and the smallest normal number above all."""
    format = format_of(dtype)
    edges = np.array([0, 1, 2, 3, format.smallest_normal / format.smallest_subnormal]) * format.smallest_subnormal
    values = np.concatenate([edges, edges + edges[1], edges[4] - edges[:4], [1.0, 2.0]])
    values = np.concatenate([values, -values])
    r, x = (v.reshape(-1) for v in np.meshgrid(values, values))
    for one_r, one_x in zip(r, x.astype(dtype), strict=True):
        one_r, one_x = one_r.reshape(1), one_x.reshape(1)
        assert against_truth(one_x, one_r, flushed=flushed).bias == ulp_error(one_x, one_r, format, flushed)[0]
        distance = ulp_distance(one_r.astype(dtype), one_x, flushed)[0]
        assert compare(one_r.astype(dtype), one_x, flushed).max == distance


# hand computed


def test_the_figures_of_a_small_pair():
    reference = array32(1, 1, 2, 0, -4)
    candidate = array32(1, np.nextafter(np.float32(1), np.float32(2)), np.nextafter(np.float32(2), 0), -0.0, -4)
    result = compare(reference, candidate)
    assert (result.size, result.num_unequal, result.num_zero_sign, result.num_compared) == (5, 2, 1, 5)
    assert (result.max, result.mean, result.bias) == (1, 2 / 5, 0)
    assert (result.p50, result.p99) == (0, 1)
    assert result.rms == math.sqrt(2 / 5)
    assert result.share_unequal == 2 / 5
    assert (result.worst_index, result.worst_values) == ((1,), (1, 1 + 2.0**-23))
    assert result.max_absolute_difference == result.max_relative_error == 2.0**-23
    assert result.mean_relative_error == (2.0**-23 + 2.0**-24) / 4
    assert result.num_zero_reference == 1
    assert result.normwise_relative_error == pytest.approx(2.0**-23 * math.sqrt(2 / 22), rel=1e-15)
    assert result.classes == ClassCounts(both_zero=1)
    assert result.histogram[HISTOGRAM_EDGES == 0] == 3
    assert result.histogram[HISTOGRAM_EDGES == 1] == 2


def test_the_figures_of_a_small_truth():
    spacing = 2.0**-23
    truth = np.array([1.5 + 0.5 * spacing, 1.5 + 0.5 * spacing, 1.25 - 0.25 * spacing, 1e-60])
    x = array32(1.5, 1.5 + spacing, 1.25, 0)
    result = against_truth(x, truth)
    # The first two are both half an ULP off; 1.5 is the even one.
    assert result.num_unequal == 1
    assert result.max == 0.5
    assert result.bias == pytest.approx((-0.5 + 0.5 + 0.25) / 4, abs=1e-12)
    assert result.p50 == 0.25
    assert result.worst_index == (0,)


def test_infinity_is_not_the_neighbour_of_the_largest_number():
    largest = np.finfo(np.float32).max
    result = compare(array32(largest, 1, 1), array32(np.inf, 1, 5))
    assert result.classes == ClassCounts(inf_finite=1)
    assert (result.num_compared, result.num_unequal) == (2, 2)
    assert result.worst_index == (0,)
    assert result.worst_values == (float(largest), math.inf)
    assert result.max == compare(array32(1), array32(5)).max


def test_equal_nans_and_infinities_are_equal_and_signs_of_infinity_are_not():
    nan_payload = np.array([0x7FC00001], np.uint32).view(np.float32)[0]
    reference = array32(np.nan, np.inf, -np.inf, np.nan)
    equal = compare(reference, array32(nan_payload, np.inf, -np.inf, np.nan))
    assert (equal.num_unequal, equal.worst_index) == (0, None)
    assert equal.classes == ClassCounts(nan_nan=2, inf_inf=2)
    assert math.isnan(equal.max) and math.isnan(equal.p50) and math.isnan(equal.mean)
    unequal = compare(reference, array32(1, -np.inf, -np.inf, np.nan))
    assert unequal.classes == ClassCounts(nan_number=1, inf_opposite=1, inf_inf=1, nan_nan=1)
    assert unequal.num_unequal == unequal.classes.num_mismatched == 2


def test_flushing_makes_the_smallest_normal_a_neighbour_of_zero():
    reference, candidate = array32(MIN_NORMAL, 1e-40, 1), array32(0, 0, 1)
    assert compare(reference, candidate).max == 1 << 23
    flushed = compare(reference, candidate, flushed=True)
    assert (flushed.max, flushed.num_unequal, flushed.classes.subnormals) == (1, 1, 1)
    truth = reference.astype(np.float64)
    assert against_truth(candidate, truth).max == 1 << 23
    flushed = against_truth(candidate, truth, flushed=True)
    assert (flushed.max, flushed.bias, flushed.num_unequal) == (1, -1 / 3, 1)


def test_a_coarser_format_has_a_larger_unit():
    x = round_to(np.random.default_rng(0).standard_normal(1000).astype(np.float32), TF32)
    truth = x.astype(np.float64) * (1 + 2.0**-13)
    in_tf32, in_float32 = against_truth(x, truth, TF32), against_truth(x, truth)
    assert in_tf32.max < 0.5 and in_tf32.num_unequal == 0
    assert in_float32.max == 2.0**13 * in_tf32.max and in_float32.num_unequal == 1000


# shapes, strides, sizes


def test_indices_are_those_of_the_shape_whatever_the_strides():
    reference = np.zeros((3, 4, 5), np.float32).transpose(2, 0, 1)
    candidate = reference.copy()
    candidate[4, 1, 2] = 1
    assert not reference.flags.c_contiguous
    for result in (
        compare(reference, candidate),
        against_truth(candidate, reference.astype(np.float64)),
        scaled_error(candidate, reference.astype(np.float64), 1.0, 1.0, 0.0),
        compare(reference.astype(np.int32), candidate.astype(np.int32)),
    ):
        assert result.worst_index == (4, 1, 2)


@pytest.mark.parametrize("dtype", [*DTYPES, np.int64, bool])
def test_scalars_and_empty_tensors(dtype):
    scalar = compare(np.array(1, dtype), np.array(0, dtype))
    assert (scalar.size, scalar.num_unequal, scalar.worst_index, scalar.worst_values) == (1, 1, (), (1, 0))
    empty = compare(np.empty((0, 3), dtype), np.empty((0, 3), dtype))
    assert (empty.size, empty.num_unequal, empty.worst_index, empty.share_unequal) == (0, 0, None, 0)
    assert math.isnan(empty.mean)
    assert empty.normwise_relative_error == 0


def test_empty_and_scalar_against_truth():
    assert against_truth(np.empty(0, np.float32), np.empty(0)).size == 0
    assert scaled_error(np.empty(0, np.float32), np.empty(0), np.empty(0), 1.0, 0.0).rms == 0
    assert against_truth(np.float32(3), np.float64(2)).worst_index == ()


def test_blocks_and_threads_add_up(monkeypatch):
    rng = np.random.default_rng(0)
    size = 2 * passes._MIN_ELEMENTS_PER_THREAD + 777
    r = rng.standard_normal(size).astype(np.float32)
    steps = rng.integers(-2, 3, size).astype(np.int32)
    steps[: size // 4] = 0  # blocks that are equal
    x = (r.view(np.int32) + steps).view(np.float32)
    r[5], x[-1], x[-2] = np.nan, np.inf, 0
    for num_cores in (1, 2, 3):
        monkeypatch.setattr(passes, "_num_cores", lambda num_cores=num_cores: num_cores)
        result = compare(r, x)
        distances = np.abs(steps)[np.isfinite(r) & np.isfinite(x)].astype(np.int64)
        distances[-1] = abs(int(r[-2:-1].view(np.int32)[0]) & 0x7FFFFFFF)
        assert result.max == distances.max()
        assert result.mean == pytest.approx(distances.mean(), rel=1e-12)
        assert (result.p50, result.p99) == (np.percentile(distances, 50), np.percentile(distances, 99))
        assert result.histogram[0] == (distances == 0).sum()
        assert result.num_unequal == (distances != 0).sum() + 2
        assert result.worst_index == (5,)
        assert result.classes == ClassCounts(nan_number=1, inf_finite=1)


def test_squares_that_leave_the_range_of_float64_do_not_spoil_the_norm():
    for unit in (1e200, 1e-200):
        r = np.array([3.0, 4.0]) * unit
        x = np.array([3.0, 4.5]) * unit
        assert compare(r, x).normwise_relative_error == pytest.approx(0.1, rel=1e-14)
        assert against_truth(x, r).normwise_relative_error == pytest.approx(0.1, rel=1e-14)


# integers


def test_integers_differ_by_numbers_not_by_ulps():
    result = compare(np.array([3, 4, 0]), np.array([3, 9, -2]))
    assert (result.num_unequal, result.worst_index, result.worst_values) == (2, (1,), (4, 9))
    assert result.max_absolute_difference == 5
    assert result.normwise_relative_error == pytest.approx(math.sqrt(29) / 5)
    assert math.isnan(result.max) and result.histogram.sum() == 0


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_large_integers_one_apart_differ(dtype):
    a = np.array([7, 2**62], dtype)
    result = compare(a, a + np.array([0, 1], dtype))
    assert (result.num_unequal, result.max_absolute_difference, result.worst_index) == (1, 1, (1,))
    extremes = np.array([np.iinfo(dtype).min], dtype), np.array([np.iinfo(dtype).max], dtype)
    assert compare(*extremes).max_absolute_difference == 2.0**64


# in units of a scale


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 50), st.sampled_from(DTYPES))
def test_scaled_errors_are_the_formula(seed, size, dtype):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(size).astype(dtype)
    truth = x.astype(np.float64) + rng.choice([0, 1e-3], size) * rng.standard_normal(size)
    scale, u, underflow = np.abs(rng.standard_normal(size)), 2.0**-11, 1e-5
    expected = np.abs(x.astype(np.float64) - truth) / (u * scale + underflow)
    result = scaled_error(x, truth, scale, u, underflow)
    assert result.max == pytest.approx(expected.max(), rel=1e-14)
    assert result.rms == pytest.approx(np.sqrt(np.mean(expected**2)), rel=1e-13)
    assert result.worst_index == (None if expected.max() == 0 else (int(expected.argmax()),))
    assert result.num_outside_scale == 0


def test_an_error_without_a_scale_is_outside_it():
    x, truth = array32(1, 2, 3, 3, 3), np.array([1.0, 2.5, 2.5, 2.5, 2.5])
    result = scaled_error(x, truth, np.array([0.0, 1.0, 0.0, -1.0, np.nan]), 0.5, 0.0)
    assert (result.max, result.rms, result.num_outside_scale, result.worst_index) == (math.inf, math.inf, 3, (2,))
    granted = scaled_error(x[:3], truth[:3], np.array([0.0, 1.0, 0.0]), 0.5, 0.5)
    assert (granted.max, granted.num_outside_scale) == (1, 0)


def test_what_is_not_finite_is_right_or_infinitely_wrong():
    inf, nan = math.inf, math.nan
    right = scaled_error(array32(nan, inf, -inf, inf), np.array([nan, inf, -inf, 1e39]), 1.0, 1.0, 0.0)
    assert (right.max, right.rms, right.worst_index, right.num_outside_scale) == (0, 0, None, 0)
    for x, truth in ((nan, 1), (1, nan), (inf, -inf), (inf, 1), (1, inf), (inf, -1e39), (nan, inf)):
        wrong = scaled_error(array32(1, x), np.array([1.0, truth]), 1.0, 1.0, 0.0)
        assert (wrong.max, wrong.rms, wrong.worst_index) == (inf, inf, (1,))


# the door, and JSON


def test_what_cannot_be_compared_is_refused():
    x = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match=r"reference.dtype=float32, candidate.dtype=float64"):
        compare(x, x.astype(np.float64))
    with pytest.raises(TypeError, match="Received: dtype=complex64"):
        compare(x.astype(np.complex64), x.astype(np.complex64))
    with pytest.raises(ValueError, match=r"reference.shape=\(3,\), candidate.shape=\(2,\)"):
        compare(x, x[:2])
    with pytest.raises(TypeError, match=r"truth.dtype=float32"):
        against_truth(x, x)
    with pytest.raises(ValueError, match=r"x.shape=\(3,\), truth.shape=\(1,\)"):
        scaled_error(x, np.zeros(1), 1.0, 1.0, 0.0)


def test_json_takes_the_figures():
    result = compare(array32(1, np.inf, 0), array32(np.nextafter(np.float32(1), np.float32(2)), 3, 0))
    figures = json.loads(json.dumps(json_safe(result), allow_nan=False))
    assert figures["worst_values"] == ["inf", 3]
    assert figures["worst_index"] == [1]
    assert figures["histogram"] == {"0": 1, "2^0": 1}
    assert figures["classes"]["inf_finite"] == 1
    empty = json.loads(json.dumps(json_safe(compare(array32(), array32())), allow_nan=False))
    assert (empty["max"], empty["worst_index"]) == ("nan", None)
    scaled = scaled_error(array32(1), np.array([2.0]), 0.0, FLOAT32.unit_roundoff, 0.0)
    assert json_safe(scaled) == {"rms": "inf", "max": "inf", "worst_index": [0], "num_outside_scale": 1}
