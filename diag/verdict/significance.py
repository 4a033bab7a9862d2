"""How likely it is that rounding alone explains an error: by how far healthy places came, in runs that were controls.

diag/data/controls.toml has, of each family of outputs, the largest excess of every control, and the tail that was
fitted to them.  `python -m benchmarks.controls` makes the runs and `python -m benchmarks.significance fit` the file;
docs/BOUNDS.md has how well the chances are calibrated.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from diag.numerics.op_classes import class_of
from diag.numerics.tails import ParetoTail, TailedSample
from diag.verdict.findings import NOBODY, Divergence, Where
from diag.verdict.result import RunResult

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DATA = "data/controls.toml"
NO_EXCESS = ("random-stream",)  # causes that are found by other tests


@dataclass(frozen=True)
class Significance:
    """What the controls say of one excess.

    p: the chance that some output of its family comes as far in a control.  num_as_far, num_controls: how many did.
    extrapolated: the same chance by the tail, where none did.
    """

    p: float
    num_as_far: int
    num_controls: int
    extrapolated: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """The keys in the evidence of a divergence in report.json."""
        more = {} if self.extrapolated is None else {"p_rounding_extrapolated": self.extrapolated}
        return {"p_rounding": self.p, **more}


def family_of(where: Where) -> str:
    """Whose errors an output's are like: of a layer or a step, or of an op of its class."""
    return class_of(where.op_type or "").value if where.unit == "op" else where.unit


def significance(divergence: Divergence) -> Significance | None:
    """None where no excess was measured, or no control has an output of its family, or had weights of its own."""
    if divergence.cause in NO_EXCESS or divergence.blame == NOBODY:
        return None
    return significance_of(divergence.where, divergence.excess)


def chance_of_rounding(result: RunResult) -> Significance | None:
    """Of the first divergence; without one, of the least likely of the largest errors that were within their bounds."""
    if result.first_divergence is not None:
        return significance(result.first_divergence)
    judged = (significance_of(o.where, o.excess) for o in result.worst if o.bound is not None)
    return min((known for known in judged if known is not None), key=lambda known: known.p, default=None)


def significance_of(where: Where, excess: float) -> Significance | None:
    sample = _controls().get(family_of(where))
    if sample is None:
        return None
    num_controls = len(sample.values)
    return Significance(sample.chance(excess), sample.num_at_least(excess), num_controls, sample.extrapolated(excess))


@cache
def _controls() -> dict[str, TailedSample]:
    document = tomllib.loads(resources.files("diag").joinpath(DATA).read_text(encoding="utf-8"))
    return {family: sample_from(record) for family, record in document["families"].items()}


def sample_from(record: Mapping[str, Any]) -> TailedSample:
    """Of a family in the file: `largest`, sorted, and `tail`, where it has one."""
    tail = record.get("tail")
    return TailedSample(tuple(record["largest"]), None if tail is None else ParetoTail(**tail))
