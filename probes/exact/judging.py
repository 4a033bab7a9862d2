"""What a place made of exact sums: right to the bit, right in norm, wrong and where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf

from diag.causes.patterns import describe_elements
from diag.common.wording import counted
from diag.engine.graphs.tf_errors import reason
from diag.numerics.formats import FLOAT32, format_of
from diag.numerics.normwise import norms_of, normwise_bound
from probes.exact.case import (
    LIMITS,
    Case,
    array_text,
    arrays_of,
    function_of,
    magnitudes,
    numpy_dtype,
    right_answers,
    setup_lines,
)
from probes.frame.device import NOT_SUPPORTED, DeviceUnderTest
from probes.frame.device_report import FAIL, NOTE, PASS, UNSUPPORTED, Measurement
from probes.frame.fallback import check_placed
from probes.frame.plan import Choice, Probe
from probes.frame.reproducer import Expected, reproducer

FAMILY = "exact"
NUM_CALLS = 2  # the same inputs twice in a row: the same answer
NUM_SHOWN = 4
MOST_NARROW, MOST_QUICK, MOST_COMPILED, FEWEST = 5, 3, 3, 2  # cases of a sweep; XLA compiles one in 80 ms (measured)


@dataclass(frozen=True)
class CaseOutcome:
    """One case: status, how many elements are wrong, the largest error, one line, and which elements to show."""

    case: Case
    status: str
    says: str = ""
    num_wrong: int = 0
    num_elements: int = 0
    largest_error: float = 0.0
    shown: Sequence[tuple[int, float]] = ()  # flat index over all outputs, and what is right there


def sweep(op: str, dtype: str, name: str, cases: Iterable[Case]) -> Probe:
    """One reading over several cases, all of which must be exact."""

    def run(device: DeviceUnderTest) -> Iterator[Measurement]:
        chosen = list(cases)
        if device.place.execution == "xla":
            chosen = spread(chosen, MOST_COMPILED if dtype == "float32" else FEWEST)
        yield measurement(device, op, dtype, name, [outcome(device, each, dtype) for each in chosen])

    return Probe(FAMILY, op, dtype, name, run)


def noted_sweep(op: str, dtype: str, name: str, cases: Iterable[Case], because: str) -> Probe:
    """One reading over cases for which nothing is promised: what is not exact is noted, and why it may be."""

    def run(device: DeviceUnderTest) -> Iterator[Measurement]:
        found = [outcome(device, each, dtype) for each in cases]
        yield measurement(device, op, dtype, name, [
            replace(each, status=NOTE, says=f"{each.says} ({because})") if each.status == FAIL else each
            for each in found
        ])  # fmt: skip

    return Probe(FAMILY, op, dtype, name, run)


def only_some(choice: Choice, cases: Sequence[Case], dtype: str = "float32") -> Sequence[Case]:
    """All cases in float32, some from all over the sweep in other dtypes, a few with --quick."""
    if choice.quick:
        return spread(cases, MOST_QUICK if dtype == "float32" else FEWEST)
    return cases if dtype == "float32" else spread(cases, MOST_NARROW)


def spread(cases: Sequence[Case], most: int) -> list[Case]:
    """At most so many, from all over the list, the first and the last among them."""
    if len(cases) <= most:
        return list(cases)
    return [cases[round(i * (len(cases) - 1) / (most - 1))] for i in range(most)]


def outcome(device: DeviceUnderTest, case: Case, dtype: str) -> CaseOutcome:
    arrays = arrays_of(case.inputs, dtype)
    expected = right_answers(case, arrays)
    if case.is_sum:
        check_exact(case, arrays, dtype)
    computation = device.computation(function_of(case))
    try:
        check_placed(device, computation, arrays, dtype)
        for earlier in case.before:
            computation(*arrays_of(earlier, dtype))
        runs = [computation(*arrays) for _ in range(NUM_CALLS)]
    except NOT_SUPPORTED as error:
        return CaseOutcome(case, UNSUPPORTED, reason(error))
    except tf.errors.ResourceExhaustedError as error:
        return CaseOutcome(case, FAIL, f"out of memory: {reason(error)}")
    found = [judged(case, arrays, each, expected) for each in runs]
    worst = max(found, key=lambda each: (each.status == FAIL, each.num_wrong))
    if worst.status == FAIL and any(each.status == PASS for each in found):
        worst = replace(worst, says=f"not the same twice in a row: {worst.says}")
    return worst


def check_exact(case: Case, arrays: Sequence[np.ndarray], dtype: str) -> None:
    """Raises ValueError where a partial sum could leave the integers that the dtype holds: a bug of the probe."""
    largest = max((float(each.max(initial=0)) for each in magnitudes(case, arrays)), default=0.0)
    if largest > LIMITS[dtype]:
        raise ValueError(f"Not exact in {dtype}. Received: partial sums up to {largest:g} in case={case.label!r}")


def judged(
    case: Case, arrays: Sequence[np.ndarray], found: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> CaseOutcome:
    size = sum(each.size for each in expected)
    shapes = [each.shape for each in found], [each.shape for each in expected]
    if shapes[0] != shapes[1]:
        if not any(each.size for each in (*found, *expected)):
            return CaseOutcome(case, NOTE, f"an empty result of shape {shapes[0]} where {shapes[1]} is due")
        return CaseOutcome(case, FAIL, f"shape {shapes[0]}, expected {shapes[1]}", num_wrong=size, num_elements=size)
    masks = [~_is_right(x, right, case.ulps) for x, right in zip(found, expected, strict=True)]
    num_wrong = sum(int(mask.sum()) for mask in masks)
    if not num_wrong:
        return CaseOutcome(case, PASS, num_elements=size)
    errors = [_error(x, right) for x, right in zip(found, expected, strict=True)]
    largest = max(float(error.max(initial=0.0)) for error in errors)
    if case.tolerates and is_right_in_norm(case, arrays, found, expected):
        says = f"right in norm, not per element (a transform algorithm): off by up to {largest:.2g}"
        return CaseOutcome(case, NOTE, says, num_wrong, size, largest)
    number = next(index for index, mask in enumerate(masks) if mask.any())
    where = _where(case, masks[number], number)
    at = int(np.flatnonzero(masks[number])[0])
    got, right = found[number].reshape(-1)[at], expected[number].reshape(-1)[at]
    says = f"{where}; {_expected_and_computed(float(right), float(got))}"
    if not all(array.size for array in arrays):  # TensorFlow promises nothing of nothing; no training step asks for it
        return CaseOutcome(case, NOTE, f"of an empty input: {says}", num_wrong, size)
    return CaseOutcome(case, FAIL, says, num_wrong, size, largest, _to_show(masks, expected))


def _is_right(x: np.ndarray, right: np.ndarray, ulps: float) -> np.ndarray:
    """Values, not bits: the sign of zero is nobody's sum."""
    if right.dtype == bool or x.dtype == bool:
        return np.asarray(x == right)
    wide, right = x.astype(np.float64), right.astype(np.float64)
    equal = np.asarray((wide == right) | (_is_nan(wide) & _is_nan(right)))
    if ulps and right.size:
        allowed = ulps * 2 * format_of(x.dtype).unit_roundoff * np.abs(right).max()
        equal |= np.abs(wide - right) <= allowed
    return equal


def _is_nan(x: np.ndarray) -> np.ndarray:
    return np.asarray(x != x)


def _error(x: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        error = np.abs(x.astype(np.float64) - right.astype(np.float64))
    return np.where(
        np.isnan(error) & ~(_is_nan(x) & _is_nan(right)), np.inf, np.nan_to_num(error, nan=0.0, posinf=np.inf)
    )


def is_right_in_norm(
    case: Case, arrays: Sequence[np.ndarray], found: Sequence[np.ndarray], expected: Sequence[np.ndarray]
) -> bool:
    """Whether a transform, such as Winograd's, explains what is not exact; its sums are float32 or wider."""
    scales = magnitudes(case, arrays)
    return all(
        normwise_bound(x, right.astype(np.float64), norms_of(scale), FLOAT32).is_explained
        for x, right, scale in zip(found, expected, scales, strict=True)
    )


def _where(case: Case, mask: np.ndarray, number: int) -> str:
    described = describe_elements(mask, case.axes)
    which = f" of output {number}" if number else ""
    count = f"{described['num_wrong']:,} of {described['size']:,} elements{which} wrong"
    return f"{count}, {described['where']}" if "where" in described else count


def _expected_and_computed(right: float, got: float) -> str:
    """Two numbers in as many digits as tell them apart."""
    digits = next(digits for digits in (6, 9, 17) if f"{right:.{digits}g}" != f"{got:.{digits}g}" or digits == 17)
    return f"expected {right:.{digits}g}, computed {got:.{digits}g}"


def _to_show(masks: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> list[tuple[int, float]]:
    flat = np.concatenate([mask.reshape(-1) for mask in masks])
    values = np.concatenate([each.astype(float).reshape(-1) for each in expected])
    return [(int(index), float(values[index])) for index in np.flatnonzero(flat)[:NUM_SHOWN]]


def measurement(
    device: DeviceUnderTest, op: str, dtype: str, name: str, outcomes: Sequence[CaseOutcome]
) -> Measurement:
    """Of a sweep: the worst case is named."""
    wrong = [each for each in outcomes if each.status == FAIL]
    noted = [each for each in outcomes if each.status == NOTE]
    missing = [each for each in outcomes if each.status == UNSUPPORTED]
    figures = {
        "cases": len(outcomes),
        "wrong_cases": len(wrong),
        "noted_cases": len(noted),
        "unsupported_cases": len(missing),
        "wrong_elements": sum(each.num_wrong for each in wrong),
        "elements": sum(each.num_elements for each in outcomes),
        "largest_error": max((each.largest_error for each in outcomes), default=0.0),
    }
    if len(missing) == len(outcomes):
        return Measurement(FAMILY, op, dtype, name, UNSUPPORTED, missing[0].says if missing else "no case", figures)
    lacking = f"; {counted(len(missing), 'case')} not to be had: {missing[0].says}" if missing else ""
    num_tried = len(outcomes) - len(missing)
    if wrong:
        worst = max(wrong, key=lambda each: (each.num_wrong / max(each.num_elements, 1), each.largest_error))
        said = f"wrong in {len(wrong)} of {counted(num_tried, 'case')}; {worst.case.label}: {worst.says}{lacking}"
        program = _program(device, op, dtype, name, worst)
        return Measurement(FAMILY, op, dtype, name, FAIL, said, figures, program)
    if noted:
        worst = max(noted, key=lambda each: each.largest_error)
        said = f"{len(noted)} of {counted(num_tried, 'case')}: {worst.says}; {worst.case.label}{lacking}"
        return Measurement(FAMILY, op, dtype, name, NOTE, said, figures)
    right = "right" if any(each.case.ulps for each in outcomes) else "exact"
    return Measurement(FAMILY, op, dtype, name, PASS, f"{right} in {counted(num_tried, 'case')}{lacking}", figures)


def _program(device: DeviceUnderTest, op: str, dtype: str, name: str, worst: CaseOutcome) -> str:
    """The worst case as a program; "" where it would be too long, or the case is more than a function."""
    case = worst.case
    if not case.body:
        return ""
    setup = setup_lines({**case.inputs}, dtype)
    first = [
        f"compute({', '.join(f'tf.constant({array_text(each, dtype)})' for each in earlier.values())})"
        for earlier in case.before
    ]
    title = f"{op} {dtype} {name}, {case.label}: {worst.says}."
    expected = Expected(
        [f"expected = {[value for _, value in worst.shown]}"],
        [index for index, _ in worst.shown],
        f"{_allowed(case, arrays_of(case.inputs, dtype), dtype):g}",
    )
    try:
        return reproducer(title, setup, case.body, expected, device.place, first)
    except ValueError:
        return ""


def _allowed(case: Case, arrays: Sequence[np.ndarray], dtype: str) -> float:
    """The difference that is no error, over all outputs; as `_is_right` has it."""
    if not case.ulps:
        return 0.0
    largest = max(float(np.abs(right).max(initial=0)) for right in right_answers(case, arrays))
    return case.ulps * 2 * format_of(numpy_dtype(dtype)).unit_roundoff * largest
