"""What `diff` finds: for each pair of tensors whether the bits are the same, and by how much they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from diag.common.wording import shape_text
from diag.errors import UserError
from traces.encoding import Array
from traces.inspector.elements import as_real, num_different_bits
from traces.inspector.pairing import Pairing, Side

if TYPE_CHECKING:
    from diag.numerics.figures import PairStatistics

VALUES, CHECKSUMS, INCOMPARABLE, ONE_SIDED = "values", "checksums", "incomparable", "one-sided"


@dataclass(frozen=True)
class Difference:
    """How two tensors compare.

    `by` says how that is known: `VALUES`; `CHECKSUMS`, where they agree or a value is not stored;
    `INCOMPARABLE`, where dtype or shape is another; `ONE_SIDED`, where one side has nothing. Of values that
    differ `pair` has the statistics, and `num_bits_differ` counts elements, those included of which only the
    sign of zero or the payload of a NaN differs.
    """

    a: Side
    b: Side
    is_same: bool
    by: str
    num_bits_differ: int = 0
    pair: PairStatistics | None = None
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {
            "a": self.a.address,
            "b": self.b.address,
            "same": self.is_same,
            "by": self.by,
            "note": self.note or None,
            "num_bits_differ": self.num_bits_differ if self.pair else None,
            "compared": None if self.pair is None else self.pair.to_dict(),
        }


@dataclass(frozen=True)
class Comparison:
    """Of everything asked for, in the order it happened."""

    pairing: Pairing
    compared: tuple[Difference, ...]

    @property
    def differing(self) -> list[Difference]:
        return [each for each in self.compared if not each.is_same]

    @property
    def is_same(self) -> bool:
        return not (self.differing or self.pairing.only_a or self.pairing.only_b)


def comparison_of(pairing: Pairing) -> Comparison:
    """Compare all pairs.

    Raises:
      UserError: there is nothing on either side, so that "the same" would say nothing.
    """
    compared = tuple(_compared(pairing))
    if not pairing.pairs and not (pairing.only_a or pairing.only_b):
        raise UserError(
            "Nothing that was asked for has two sides, at these steps and in these lanes (batches have no lanes); "
            "expected two steps, or --other FILE"
        )
    if not compared and not (pairing.only_a or pairing.only_b):
        raise UserError("There is nothing to compare: neither a value nor a checksum is stored of what was asked for")
    return Comparison(pairing, compared)


def _compared(pairing: Pairing) -> Iterator[Difference]:
    for a, b in pairing.pairs:
        sums = a.checksum, b.checksum
        if sums == (None, None):
            continue  # neither lane of a step that handed nothing over
        dtypes = _dtype(a), _dtype(b)
        if None in sums:
            present, absent = (a, b) if sums[1] is None else (b, a)
            yield Difference(a, b, False, ONE_SIDED, note=f"{present.address} is there, {absent.address} is not")
        elif dtypes[0] == dtypes[1] and sums[0] == sums[1]:
            yield Difference(a, b, True, CHECKSUMS)
        elif not (a.is_kept and b.is_kept):
            yield Difference(a, b, False, CHECKSUMS, note="by their checksums; a value is not stored")
        else:
            yield _by_values(a, b)


def _by_values(a: Side, b: Side) -> Difference:
    from diag.numerics.statistics import compare  # numba, which takes 0.3 s to import: only where values differ

    one, other = (side.catalogue.value(side.entry, side.step, side.lane) for side in (a, b))
    if one.dtype != other.dtype or one.shape != other.shape:
        return Difference(a, b, False, INCOMPARABLE, note=f"{_form(one, other)} against {_form(other, one)}")
    one, other = as_real(one), as_real(other)
    num_differ = num_different_bits(one, other)
    return Difference(a, b, num_differ == 0, VALUES, num_differ, compare(one, other))


def _form(array: Array, other: Array) -> str:
    """The shape, and the dtype where that is another."""
    shape = shape_text(array.shape)
    return shape if array.dtype == other.dtype else f"{array.dtype.name} {shape}"


def _dtype(side: Side) -> str:
    return next(spec.dtype for spec in side.entry.specs if spec.lane == side.lane)
