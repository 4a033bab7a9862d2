"""Values of this program as JSON takes them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

import numpy as np

_TEXTS = (str, np.complexfloating)  # of NumPy's scalars, those that JSON takes as text


def to_text(contents: Mapping[str, object]) -> str:
    return json.dumps(contents, indent=2, allow_nan=False) + "\n"


def json_safe(value: Any) -> Any:
    """The same value made of what JSON has; NaN and infinities as strings."""
    if isinstance(value, Enum):
        return json_safe(value.value)
    if isinstance(value, np.ndarray):
        return json_safe(list(value)) if value.ndim else _scalar(value[()])
    if isinstance(value, dict):
        return {str(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(each) for each in value]
    if isinstance(value, (set, frozenset)):
        return sorted((json_safe(each) for each in value), key=str)
    if hasattr(value, "to_dict"):
        return json_safe(value.to_dict())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_safe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return _scalar(value)


def _scalar(value: Any) -> Any:
    """One number, truth or text; anything else as the text that Python makes of it."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, float) or (isinstance(value, np.generic) and not isinstance(value, _TEXTS)):
        return _real(value)
    return str(value)  # np.str_ too


def _real(value: Any) -> Any:
    try:
        return json_number(float(value))  # bfloat16 and its like are no np.floating
    except (TypeError, ValueError):
        return str(value)


def json_number(value: float) -> float | str:
    """JSON has no infinity and no NaN; they become strings that float() reads."""
    return value if math.isfinite(value) else str(value)


def print_document(schema: str, contents: Mapping[str, Any]) -> None:
    print(json.dumps(json_safe({"schema": schema, **contents}), indent=2, allow_nan=False))
