"""A unit that is wrong although each of its ops is right, run again: what comes and goes is no compiler's.

A graph is compiled once and then does the same each time.  What it gives wrong in one run and right in the next, on the
same inputs, is a race, a torn write or memory that was not cleared, in a kernel.
"""

from __future__ import annotations

from diag.engine.graphs.tf_runtime import to_numpy
from diag.engine.lanes.step_results import UnitRun
from diag.engine.lockstep.telescope import Telescope
from diag.numerics.bits import same_bits
from diag.verdict.findings import Cause, Verdict

# What is wrong now and then may be wrong twice running.
REPEATS = 3


def chance_of(telescope: Telescope, unit_run: UnitRun, output: int) -> Cause | None:
    """`nondeterminism`, with how often, where further runs of the unit give an output within its bound; else None."""
    wrong = to_numpy(unit_run.candidate[output])
    num_right = 0
    for _ in range(REPEATS):
        (again,) = telescope.run_units(unit_run.run, [unit_run.unit])
        differs = not same_bits(to_numpy(again.candidate[output]), wrong)
        num_right += differs and _is_right(telescope, again, output)
    if not num_right:
        return None
    summary = f"wrong in one run and right in {num_right} of {REPEATS} more, on the same inputs"
    return Cause("nondeterminism", summary, {"num_runs": 1 + REPEATS, "num_right": num_right})


def _is_right(telescope: Telescope, unit_run: UnitRun, output: int) -> bool:
    observations = telescope.judge.judge(unit_run, False, {})
    return not any(o.where.output == output and o.verdict is Verdict.DIVERGENCE for o in observations)
