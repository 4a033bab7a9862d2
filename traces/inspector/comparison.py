"""What `diff` reports: for each pair of tensors whether the bits are the same, and by how much they differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from diag.common.wording import shape_text
from diag.errors import UserError
from diag.numerics.figures import PairStatistics
from traces.encoding import Array
from traces.inspector.catalogue import StoredTensor
from traces.inspector.elements import as_real, compare_values, num_different_bits
from traces.inspector.pairing import Pairing

VALUES, CHECKSUMS, INCOMPARABLE, ONE_SIDED = "values", "checksums", "incomparable", "one-sided"


@dataclass(frozen=True)
class TensorComparison:
    """How two tensors compare.

    `by` says how that is known: `VALUES`; `CHECKSUMS`, where they agree or a value is not stored;
    `INCOMPARABLE`, where dtype or shape is another; `ONE_SIDED`, where one side has nothing. Of values that
    differ `pair` has the statistics, and `num_bits_differ` counts elements, those included of which only the
    sign of zero or the payload of a NaN differs.
    """

    a: StoredTensor
    b: StoredTensor
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
            "compared": self.pair,
        }


@dataclass(frozen=True)
class TraceComparison:
    """Of everything asked for, in the order it happened."""

    pairing: Pairing
    compared: tuple[TensorComparison, ...]

    @property
    def differing(self) -> list[TensorComparison]:
        return [each for each in self.compared if not each.is_same]

    @property
    def is_same(self) -> bool:
        return not (self.differing or self.pairing.only_a or self.pairing.only_b)

    def to_dict(self, everything: bool) -> dict[str, Any]:
        differing = self.differing
        return {
            "same": self.is_same,
            "num_compared": len(self.compared),
            "num_differing": len(differing),
            "only_a": self.pairing.only_a,
            "only_b": self.pairing.only_b,
            "first": differing[0] if differing else None,
            "differences": self.compared if everything else differing,
        }


def compare_pairs(pairing: Pairing) -> TraceComparison:
    """Compare all pairs.

    Raises:
      UserError: there is nothing on either side, so that "the same" would say nothing.
    """
    compared = tuple(_compared(pairing))
    if compared or pairing.only_a or pairing.only_b:
        return TraceComparison(pairing, compared)
    if pairing.pairs:
        raise UserError("There is nothing to compare: neither a value nor a checksum is stored of what was asked for")
    raise UserError(
        "Nothing that was asked for has two sides, at these steps and in these lanes (batches have no lanes); "
        "expected two steps, or --other FILE"
    )


def _compared(pairing: Pairing) -> Iterator[TensorComparison]:
    for a, b in pairing.pairs:
        checksums = a.checksum, b.checksum
        if checksums == (None, None):
            continue  # neither lane of a step that handed nothing over
        if None in checksums:
            present, absent = (a, b) if checksums[1] is None else (b, a)
            note = f"{present.address} is there, {absent.address} is not"
            yield TensorComparison(a, b, False, ONE_SIDED, note=note)
        elif a.dtype == b.dtype and checksums[0] == checksums[1]:
            yield TensorComparison(a, b, True, CHECKSUMS)
        elif not (a.is_kept and b.is_kept):
            yield TensorComparison(a, b, False, CHECKSUMS, note="by their checksums; a value is not stored")
        else:
            yield _compared_values(a, b)


def _compared_values(a: StoredTensor, b: StoredTensor) -> TensorComparison:
    one, other = a.value, b.value
    if one.dtype != other.dtype or one.shape != other.shape:
        note = f"{_form(one, other)} against {_form(other, one)}"
        return TensorComparison(a, b, False, INCOMPARABLE, note=note)
    num_differ = num_different_bits(as_real(one), as_real(other))
    return TensorComparison(a, b, num_differ == 0, VALUES, num_differ, compare_values(one, other))


def _form(array: Array, other: Array) -> str:
    """The shape, and the dtype where that is another."""
    shape = shape_text(array.shape)
    return shape if array.dtype == other.dtype else f"{array.dtype.name} {shape}"
