"""Steps, shapes and names as a person reads them; numbers are in `diag.report.wording`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def shape_text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def ranges_of(numbers: Iterable[int], most: int | None = None) -> str:
    """Ascending numbers, runs of them joined: "0-3, 7"; of more than `most` runs the first ones and how many steps."""
    numbers = list(numbers)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    if most is not None and len(texts) > most:
        return f"{', '.join(texts[:most])}, ... ({len(numbers):,})"
    return ", ".join(texts)


def size_text(num_bytes: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if num_bytes < 1024:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1024
    return f"{num_bytes:.1f} GiB"


def shortened(text: str, width: int) -> str:
    """Cut in the middle: the ends of a layer's name say most."""
    if len(text) <= width:
        return text
    kept = max(width - 3, 2)
    return f"{text[: kept - kept // 2]}...{text[len(text) - kept // 2 :]}"
