"""The third check of a file: each of its JSON documents is the record that it should be."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from diag.common.wording import shortened
from traces.encoding import STORED_DTYPES
from traces.hdf5.chunks import Unsound
from traces.hdf5.creation import COLUMN_DTYPES
from traces.schema import STEP, VIEW, TraceLayout

DEEPEST = 200
"""Lists and objects within each other; a model of models is 30 deep."""
LONGEST_NAME = 1 << 16
LONGEST_TEXT = 1 << 20
LARGEST = 2**63 - 1
MOST_AXES = 31
"""HDF5's 32, less the one of the rows."""
KNOWN_COLUMNS = {
    **dict.fromkeys(("step", "index", "output"), "int64"),
    **dict.fromkeys(("bound", "excess"), "float64"),
    **dict.fromkeys(("phase", "layer", "variable", "unit", "op_type", "dtype", "shape", "verdict"), "text"),
}
"""What the program reads by name, and what it takes it for."""
OF_A_SPEC = {"name", "shape", "dtype", "lane", "kind", "observed"}
OF_A_LAYOUT = {"lanes", "steps", "tensors", "variables", "batch", "layers", "op_columns", "unit_columns"}


def parsed(text: bytes, name: str) -> Any:
    """A JSON document, of numbers, texts and depth within bounds.

    Raises:
      Unsound: it is none.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unsound(f"{name} is no JSON ({shortened(str(error), 200)})") from None
    _refuse_unbounded(document, name)
    return document


def _refuse_unbounded(document: Any, name: str) -> None:
    level = [document]
    for _ in range(DEEPEST):
        if not level:
            return
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.keys()
                below += value.values()
            elif isinstance(value, list):
                below += value
            else:
                _refuse_unbounded_value(value, name)
        level = below
    raise Unsound(f"{name} has more than {DEEPEST} lists or objects within each other")


def _refuse_unbounded_value(value: Any, name: str) -> None:
    if isinstance(value, str):
        if len(value) > LONGEST_TEXT:
            raise Unsound(f"{name} has a text of {len(value):,} characters; expected at most {LONGEST_TEXT:,}")
        if not value.isascii() and any("\ud800" <= character <= "\udfff" for character in value):
            raise Unsound(f"{name} has a text that is no Unicode")
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise Unsound(f"{name} has a number of more than 64 bits")


# -- the layout ------------------------------------------------------------------------------------


def layout_of(document: Any) -> TraceLayout:
    """The layout that a document describes.

    Raises:
      Unsound: it describes none.
    """
    is_one = isinstance(document, dict) and OF_A_LAYOUT <= document.keys() <= OF_A_LAYOUT | {"describes_ops"}
    _expect(is_one, "layout", f"an object of {OF_A_LAYOUT}")
    _expect(isinstance(document.get("describes_ops", False), bool), "layout: describes_ops", "true or false")
    _expect(_is_list(document["lanes"], _is_lane), "layout: lanes", "names of 1 to 64 printable characters")
    _expect(_is_list(document["layers"], _is_name), "layout: layers", "names")
    _expect(document["steps"] is None or _is_count(document["steps"]), "layout: steps", "a number, or null")
    for part in ("tensors", "variables", "batch"):
        _expect(_is_list(document[part], _is_spec), f"layout: {part}", f"objects of {sorted(OF_A_SPEC)}")
    for part in ("op_columns", "unit_columns"):
        _expect(_is_list(document[part], _is_column), f"layout: {part}", "columns of known types")
        _expect(bool(document[part]), f"layout: {part}", "at least one column")
    try:
        return TraceLayout.from_json(document)
    except ValueError as error:
        raise Unsound(f"layout: {shortened(str(error), 300)}") from None


def _is_lane(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable() and "/" not in value and value != "."


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_NAME and "\0" not in value


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_spec(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"name", "shape", "dtype"} <= value.keys() <= OF_A_SPEC
        and all(_is_name(value.get(part, "")) for part in ("name", "lane", "kind"))
        and isinstance(value["dtype"], str)
        and value["dtype"] in STORED_DTYPES
        and value.get("observed", STEP) in (STEP, VIEW)
        and _is_list(value["shape"], _is_count)
        and len(value["shape"]) <= MOST_AXES
        and math.prod(max(1, length) for length in value["shape"]) < LARGEST // 16
        and all(length < 2**31 for length in value["shape"])
        and "/" not in value.get("kind", "")
        and value.get("kind", "") != "."
    )


def _is_column(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and {"name", "dtype"} <= value.keys() <= {"name", "dtype", "width"}
        and _is_name(value["name"])
        and value["name"] not in ("", ".")
        and isinstance(value["dtype"], str)
        and value["dtype"] in COLUMN_DTYPES
        and KNOWN_COLUMNS.get(value["name"], value["dtype"]) == value["dtype"]
        and value.get("width") is None
    )


# -- the other documents ---------------------------------------------------------------------------


def refuse_other_records(documents: Mapping[str, Any]) -> None:
    """That the documents of a run, by name, are of their kinds.

    Raises:
      Unsound: one is not.
    """
    for name, document in documents.items():
        if name.startswith("environment/"):
            is_place = isinstance(document, dict) and all(
                isinstance(document.get(key, ""), str) for key in ("place", "stand_in", "execution")
            )
            _expect(is_place, name, "an object of what a lane ran on, its place a text")
    command, seeds, settings, config = (documents[n] for n in ("command", "seeds", "settings", "model_config"))
    _expect(_is_list(command, lambda value: isinstance(value, str)), "command", "texts")
    _expect(isinstance(seeds, dict) and all(map(_is_integer, seeds.values())), "seeds", "numbers by name")
    _expect(isinstance(settings, dict), "settings", "an object")
    texts = [settings.get(key, "") for key in ("follow", "no_program", "units")]
    _expect(all(isinstance(text, str) for text in texts), "settings", "follow, no_program and units as texts")
    _expect(config is None or isinstance(config, dict), "model_config", "an object, or null")


def report_of(text: bytes) -> dict[str, Any]:
    """A report.

    Raises:
      Unsound: it is none.
    """
    report = parsed(text, "report")
    _expect(isinstance(report, dict), "report", "an object")
    _expect(all(isinstance(report.get(name, ""), str) for name in ("schema", "verdict")), "report", "texts")
    first, all_found = report.get("first_divergence"), report.get("divergences", [])
    _expect(first is None or _is_divergence(first), "report: first_divergence", "a divergence, or null")
    _expect(_is_list(all_found, _is_divergence), "report: divergences", "divergences")
    result: dict[str, Any] = report
    return result


_OPTIONAL_TEXT: Callable[[Any], bool] = lambda value: value is None or isinstance(value, str)  # noqa: E731
_OF_A_DIVERGENCE: Mapping[str, Callable[[Any], bool]] = {
    "step": lambda value: _is_integer(value),
    "phase": _OPTIONAL_TEXT,
    "unit": _OPTIONAL_TEXT,
    "layer": _OPTIONAL_TEXT,
    "variable": _OPTIONAL_TEXT,
    "op_type": _OPTIONAL_TEXT,
    "op_index": lambda value: value is None or _is_integer(value),
    "output": lambda value: value is None or _is_integer(value),
    "cause": _OPTIONAL_TEXT,
    "blame": _OPTIONAL_TEXT,
    "excess": lambda value: value is None or _is_number(value),
    "cured_by": lambda value: _is_list(value, lambda each: isinstance(each, str)),
    "evidence": lambda value: _is_evidence(value),
}


def _is_divergence(value: Any) -> bool:
    return isinstance(value, dict) and all(
        is_of_kind(value[name]) for name, is_of_kind in _OF_A_DIVERGENCE.items() if name in value
    )


def _is_evidence(value: Any) -> bool:
    """Facts by name; of a fused region, its ops and layers."""
    return (
        isinstance(value, dict)
        and all(isinstance(value.get(name, ""), str) for name in ("region", "summary"))
        and _is_list(value.get("region_op_indices", []), _is_integer)
        and all(_is_list(value.get(name, []), _OPTIONAL_TEXT) for name in ("layers", "vanishes_when_watched"))
    )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    """A number, or one of the texts that JSON has for NaN and the infinities."""
    return isinstance(value, (int, float)) or value in ("nan", "inf", "-inf")


def _is_list(value: Any, is_of_kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(is_of_kind, value))


def _expect(holds: bool, what: str, expected: str) -> None:
    if not holds:
        raise Unsound(f"{what} is not as expected: {expected}")
