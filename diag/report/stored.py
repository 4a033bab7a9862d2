"""A result as plain data and back, so that a trace can be reported on again, by a program without TensorFlow.

What comes back is checked on its way: a file from a stranger holds the fields of our records, of their types, or is
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_origin

import numpy as np
from cattrs import Converter
from cattrs.errors import BaseValidationError, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn, make_dict_unstructure_fn, override

from diag.common.jsonable import json_safe
from diag.errors import UserError
from diag.numerics.figures import HISTOGRAM_EDGES, PairStatistics, TruthStatistics
from diag.report import json_report
from diag.verdict.findings import Observation
from diag.verdict.result import RunResult

KEY = "record"
"""Under which name it stands in a trace, beside what report.json has."""

_converter = Converter()
_converter.register_structure_hook_func(
    lambda kind: get_origin(kind) is np.ndarray, lambda value, _: np.zeros(len(HISTOGRAM_EDGES), np.int64)
)


def _without_histogram(kind: type) -> None:
    """98 bins of each observation would be most of the record."""
    write: Any = make_dict_unstructure_fn(kind, _converter, histogram=override(omit=True))
    read: Any = make_dict_structure_fn(kind, _converter)
    _converter.register_unstructure_hook(kind, write)
    _converter.register_structure_hook(kind, lambda value, of: read({**value, "histogram": None}, of))


_without_histogram(PairStatistics)
_without_histogram(TruthStatistics)


def record_of(result: RunResult) -> dict[str, Any]:
    """The result as JSON takes it, but for the histograms and the figures of ops that are right."""
    path = tuple(replace(o, local=None, reference_local=None) for o in result.path)
    slim = replace(result, microscope=tuple(map(_slim, result.microscope)), path=path)
    record: dict[str, Any] = json_safe(_converter.unstructure(slim))
    return record


def report_with_record(result: RunResult) -> dict[str, Any]:
    """What a trace keeps: report.json, and what it is made from."""
    return {**json_report.report(result), KEY: record_of(result)}


def _slim(observation: Observation) -> Observation:
    """Of an op under the microscope a report says whether it is right; its figures are in the op table."""
    return replace(observation, propagated=None, local=None, reference_local=None, bound=None, cause=None)


def result_of(record: Mapping[str, Any]) -> RunResult:
    """The inverse of `record_of`.

    Raises:
        UserError: it was not made so.
    """
    try:
        return _converter.structure(record, RunResult)
    except (BaseValidationError, StructureHandlerNotFoundError, TypeError, ValueError, KeyError) as error:
        raise UserError(
            f"the report in the trace is not one of ours ({type(error).__name__}); make it again with the version that "
            "wrote the trace"
        ) from error
