"""Numbers as a person reads them."""

from __future__ import annotations

import math


def figure(value: float) -> str:
    """Two digits of a number, or all of those before the point up to 99,999: 0.21, 12,034, 1.2e6."""
    if math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    size = abs(value)
    if size == 0 or 1e-3 <= size < 9.95:
        return f"{value:.2g}"
    if 9.95 <= size < 99999.5:
        return f"{value:,.0f}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def percent(share: float) -> str:
    """Of a share between 0 and 1, to three digits: 12%, 11.9%, 0.04%."""
    return f"{100 * share:.3g}%" if share >= 1e-5 else f"{figure(100 * share)}%"
