"""JSON for other programs: one document on stdout, with the name of its schema."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np


def print_document(schema: str, contents: Mapping[str, Any]) -> None:
    print(json.dumps(json_safe({"schema": schema, **contents}), indent=2, allow_nan=False))


def json_safe(value: Any) -> Any:
    """The same value made of what JSON has; NaN and infinities as strings that float() reads."""
    if isinstance(value, Mapping):
        return {str(key): json_safe(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(each) for each in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: json_safe(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (np.generic, np.ndarray)):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
