"""A trace as the tables of pandas and the arrays of xarray, which are imported only here and only when asked for."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traces.reader import TraceReader

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


def op_frame(path: Path) -> pd.DataFrame:
    """The op table, a row an output of an op in a step that was looked at op by op.

    Columns as docs/TRACE.md has them; -1, NaN and "" stand for none.

    Raises:
      ImportError: pandas is not installed.
      UserError: the trace cannot be read.
    """
    pandas = _imported("pandas", "a table of ops is a pandas DataFrame")
    with TraceReader(path) as trace:
        frame: pd.DataFrame = pandas.DataFrame(trace.op_table())
    return frame


def excess_array(path: Path) -> xr.DataArray:
    """Each whole step's largest error over what rounding explains: float64 (step, unit), NaN where not judged.

    A unit is a layer, or `loss`, `optimizer`, `step`.

    Raises:
      ImportError: xarray is not installed.
      UserError: the trace cannot be read.
    """
    xarray = _imported("xarray", "excess by step and unit is an xarray DataArray")
    with TraceReader(path) as trace:
        excess, steps, units = trace.excess, trace.steps, list(trace.layout.layers)
    # a run that goes on may have added steps between the two readings
    array: xr.DataArray = xarray.DataArray(
        excess[: len(steps)],
        dims=("step", "unit"),
        coords={"step": steps[: len(excess)], "unit": units},
        name="excess",
        attrs={"long_name": "error over what rounding can explain"},
    )
    return array


def _imported(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(f"{what}, and {name} is not installed: pip install {name}", name=name) from error
