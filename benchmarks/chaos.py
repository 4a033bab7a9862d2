"""How often twins alone would raise a false alarm, and how far real candidates stay from the envelope.

Leave one out: of 12 twins, each choice of three makes an envelope, and each of the other nine is held
against it as if it were a candidate.  A twin is right by definition, so every exit is a false alarm.

    python -m benchmarks.chaos --steps 60
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from diag.machine.tensorflow_import import import_tensorflow

NUM_TWINS, SEEDS = 12, (0, 1, 2)
NUM_BATCHES, BATCH_SIZE = 10, 8
MODELS = ("mlp", "cnn", "lstm", "xception_block", "transformer")
CANDIDATES = ("CPU:0/eager", "CPU:0/xla", "sim:reordered-sums", "sim:tf32", "sim:skipped-update")
FLOORS = (1.0, 2.0, 3.6, 16.0)  # of the envelope above the largest twin


def trajectories(model: Callable[[], Any], candidate: str, num_steps: int, seed: int, num_twins: int) -> Any:
    """The growth curves of one free run; UserError and OpError where the place cannot run the model."""
    import tensorflow as tf

    from diag.engine.lanes.lane import Lane
    from diag.engine.lockstep.telescope import Telescope
    from diag.engine.runs.twins import Twins
    from diag.engine.step.tracing import flat_batch, trace
    from diag.machine.places import parse_place
    from tests import zoo

    batches = [zoo.batch_for(model, BATCH_SIZE, seed=number) for number in range(NUM_BATCHES)]
    program = trace(zoo.made(model, seed=seed), batches[0])
    reference = Lane.at("reference", parse_place("CPU:0"), program, seed)
    telescope = Telescope(program, reference, Lane.at("candidate", parse_place(candidate), program, seed))
    telescope.steps.share_random_outputs()
    twins = Twins(parse_place("CPU:0"), seed, num_twins)
    for step in range(num_steps):
        batch = [tf.constant(value) for value in flat_batch(batches[step % NUM_BATCHES])]
        run = telescope.steps.run(step, batch, with_boundaries=False)
        twins.step(run, program, (telescope.reference, telescope.candidate))
    return twins.trajectories(is_explained=False)


def limits(twins: Sequence[Sequence[float]], floor: float) -> list[float]:
    """The envelope with another floor, written down once more: the measurement is not to trust the code."""
    largest, spread, found = -math.inf, math.log(floor), []
    for distances in zip(*twins, strict=True):
        logs = [math.log(d) for d in distances if d > 0]
        largest = max(largest, *logs) if logs else largest
        spread = max(spread, max(logs) - min(logs)) if logs else spread
        found.append(math.exp(largest + spread) if largest > -math.inf else 0.0)
    return found


def false_alarms(curves: Sequence[Sequence[float]], size: int, floor: float) -> tuple[int, int]:
    """(alarms, trials) over all choices of `size` twins and all candidates among the rest."""
    alarms = trials = 0
    for chosen in itertools.combinations(range(len(curves)), size):
        envelope = limits([curves[index] for index in chosen], floor)
        for index in set(range(len(curves))) - set(chosen):
            trials += 1
            alarms += any(d > e > 0 for d, e in zip(curves[index], envelope, strict=True))
    return alarms, trials


def leave_one_out(num_steps: int) -> None:
    from tests import zoo

    found = {}
    for name in MODELS:
        for seed in SEEDS:
            seen = trajectories(getattr(zoo, name), "CPU:0", num_steps, seed, NUM_TWINS)
            found[name, seed] = [twin.distance for twin in seen.twins]
    print(f"False alarms of a twin in {num_steps} steps, {NUM_TWINS} twins, {len(SEEDS)} seeds, by floor {FLOORS}")
    for name in MODELS:
        shares = []
        for floor in FLOORS:
            counts = [false_alarms(found[name, seed], 3, floor) for seed in SEEDS]
            shares.append(sum(alarms for alarms, _ in counts) / sum(trials for _, trials in counts))
        print(f"  {name:15s} 3 twins  " + "  ".join(f"{share:6.1%}" for share in shares), flush=True)
    for size in (3, 4, 5):
        counts = {floor: [false_alarms(curves, size, floor) for curves in found.values()] for floor in FLOORS}
        shares = [sum(a for a, _ in each) / sum(t for _, t in each) for each in counts.values()]
        print(f"  all             {size} twins  " + "  ".join(f"{share:6.1%}" for share in shares), flush=True)


def candidates(num_steps: int) -> None:
    import tensorflow as tf

    from diag.errors import UserError
    from tests import zoo

    print("Largest distance over the envelope of 3 twins, and the first step outside")
    for name in MODELS:
        for place in CANDIDATES:
            try:
                seen = trajectories(getattr(zoo, name), place, num_steps, 0, 3)
            except (UserError, tf.errors.OpError):
                print(f"  {name:15s} {place:20s} cannot run", flush=True)
                continue
            ratio = max(d / e for d, e in zip(seen.candidate.distance, seen.envelope, strict=True))
            left = "" if seen.exit is None else f"  step {seen.exit.step}"
            print(f"  {name:15s} {place:20s} {ratio:9.2g}{left}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--steps", type=int, default=60, help="(default: %(default)s)")
    options = parser.parse_args()
    import_tensorflow()
    leave_one_out(options.steps)
    candidates(options.steps)


if __name__ == "__main__":
    main()
