"""The story that this program was made for, in small, and measured: a loss that explodes on one place alone.

A classifier with two hidden layers learns labels of which 15% are wrong, on the CPU and on a simulated Metal GPU whose
fused kernel leaves the activation out, in three dtype policies.  Then the run is judged at the step where it goes
wrong, and trained again with the hidden layers computed by the reference.

    python -m benchmarks.story --plot docs/images/story.png

The model and the data are also for the command line:

    python -m diag.lockstep --model benchmarks/story.py:classifier --data benchmarks/story.py:noisy
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from diag.engine.step.program import Program
    from diag.engine.training.setup import Trained
    from diag.verdict.result import RunResult
    from diag.verdict.substitution import Substitution

HERE = "benchmarks/story.py"
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
HEALTHY, FAULTY = "CPU:0", "sim:metal-fused-dense"
BATCH_SIZE, NUM_BATCHES = 64, 16
NUM_FEATURES, NUM_CLASSES, WRONG_LABELS = 20, 4, 0.15
STEPS = 200 * NUM_BATCHES


def samples(seed: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Points around a centre for each class, and their true classes."""
    centers = 0.6 * np.random.default_rng(0).normal(size=(NUM_CLASSES, NUM_FEATURES))
    random = np.random.default_rng(seed)
    classes = random.integers(0, NUM_CLASSES, BATCH_SIZE * NUM_BATCHES)
    points = centers[classes] + random.normal(size=(len(classes), NUM_FEATURES))
    return points.astype("float32"), classes.astype("int32"), random


def noisy() -> tuple[np.ndarray, np.ndarray]:
    """What is trained on: 15% of the labels are of another class."""
    points, classes, random = samples(seed=1)
    moved = random.random(len(classes)) < WRONG_LABELS
    others = (classes + random.integers(1, NUM_CLASSES, len(classes))) % NUM_CLASSES
    return points, np.where(moved, others, classes).astype("int32")


def classifier() -> Any:
    """Two hidden layers, Adam."""
    import keras

    model = keras.Sequential(
        [
            keras.Input((NUM_FEATURES,)),
            keras.layers.Dense(64, "relu", name="hidden_1"),
            keras.layers.Dense(64, "relu", name="hidden_2"),
            keras.layers.Dense(NUM_CLASSES, dtype="float32", name="logits"),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(5e-3), loss)
    return model


@dataclass(frozen=True)
class Training:
    """One training: a loss a step, the share of unseen samples put into their true class an epoch, and states."""

    place: str
    policy: str
    losses: tuple[float, ...]
    accuracies: tuple[float, ...]
    states: dict[int, list[Any]]  # before the first step of each epoch

    @property
    def epochs(self) -> np.ndarray:
        """The loss of each epoch."""
        return np.asarray(self.losses).reshape(-1, NUM_BATCHES).mean(axis=1)

    @property
    def goes_wrong_at(self) -> int | None:
        """The first step of the first epoch whose loss is above that of the first epoch, or not a number."""
        worse = [epoch for epoch, loss in enumerate(self.epochs) if not loss <= self.epochs[0]]
        return worse[0] * NUM_BATCHES if worse else None


def set_up(policy: str) -> Trained:
    from diag.engine.training import setup

    return setup.set_up(setup.Named(f"{HERE}:classifier", f"{HERE}:noisy"), BATCH_SIZE, STEPS, 0, setup.Traced(policy))


def train(policy: str, place: str, steps: int, trained: Trained | None = None) -> Training:
    """Train with the compiled step that `model.fit` would run, and nothing else."""
    import tensorflow as tf

    from diag.engine.lanes.lane import CompiledSteps, Lane
    from diag.engine.step.tracing import flat_batch
    from diag.machine.places import parse_place

    trained = trained or set_up(policy)
    program = trained.programs(trained.batches[0])
    lane = Lane.at("candidate", parse_place(place, None, policy), program, 0)
    compiled, accuracy = CompiledSteps(lane, program), Accuracy(program, lane)
    losses, accuracies, states = [], [], {}
    for step in range(steps):
        if step % NUM_BATCHES == 0:
            states[step] = lane.state()
        batch = [tf.constant(value) for value in flat_batch(trained.batches[step])]
        losses.append(float(compiled.run(batch, ())[program.loss]))
        if step % NUM_BATCHES == NUM_BATCHES - 1:
            accuracies.append(accuracy())
    return Training(place, policy, tuple(losses), tuple(accuracies), states)


class Accuracy:
    """Of unseen samples, the share that a lane puts into their true class, at the lane's place."""

    def __init__(self, program: Program, lane: Any) -> None:
        from diag.engine.runs.predictions import forward_to, prediction_of

        port = prediction_of(program)
        assert port is not None
        self.run, self.place_feeds = lane.build(forward_to(program.step((port,)), port)), lane.place_feeds
        self.points, self.classes, _ = samples(seed=2)

    def __call__(self) -> float:
        right = 0
        for start in range(0, len(self.classes), BATCH_SIZE):
            labels = self.classes[start : start + BATCH_SIZE]
            (scores,) = self.run(*self.place_feeds([self.points[start : start + BATCH_SIZE], labels]))
            right += int(np.sum(np.argmax(np.asarray(scores), axis=-1) == labels))
        return right / len(self.classes)


def judged_at(training: Training, step: int, folder: Path) -> RunResult:
    """`diag.lockstep --follow candidate` on two steps from the state that the candidate had before `step`."""
    from diag.engine.recordings.recording import Recording, RecordingOptions
    from diag.engine.runs.run import LockstepRun, Settings
    from diag.engine.step.serialization import with_state
    from diag.machine.places import parse_place
    from diag.report import json_report

    trained = set_up(training.policy)
    at = replace(trained, programs=lambda batch: with_state(trained.programs(batch), training.states[step]))
    places = [parse_place(place, None, training.policy) for place in (HEALTHY, training.place)]
    settings = Settings(places[0], places[1], 2, 0, "candidate", first_step=step)
    run = LockstepRun(at.programs, at.batches, settings)
    command = ["python", "-m", "benchmarks.story"]
    recording = Recording(folder / "trace.h5", run.plan, command, at, RecordingOptions())
    for finished in run.steps():
        recording.step(finished)
    result = run.result()
    recording.finish(json_report.report(result))
    return result


def restored(policy: str, names: str, steps: int) -> Substitution:
    """The same training with some layers computed by the reference."""
    from diag.engine.attribution.substitution import substitute
    from diag.machine.places import parse_place

    trained = set_up(policy)
    places = (parse_place(HEALTHY, None, policy), parse_place(FAULTY, None, policy))
    return substitute(names, trained.programs, trained.batches, places, range(steps), 0)


# -- what is printed and drawn ---------------------------------------------------------------------


def row(training: Training) -> str:
    """A row of the table, in Markdown."""
    epochs, best = training.epochs, max(training.accuracies)
    wrong = training.goes_wrong_at
    cells = [
        training.policy, training.place, f"{epochs[0]:.3g}", f"{np.nanmin(epochs):.3g}", f"{epochs[-1]:.3g}",
        "never" if wrong is None else str(wrong), f"{best:.1%}", f"{training.accuracies[-1]:.1%}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEADER = (
    "| policy | place | loss, first epoch | lowest | last | goes wrong at step | best accuracy | last accuracy |\n"
    "|---|---|---|---|---|---|---|---|"
)


def draw(trainings: Sequence[Training], mended: Substitution | None, path: Path) -> None:
    """Loss by step, a panel for each policy."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    policies = list(dict.fromkeys(training.policy for training in trainings))
    figure, panels = pyplot.subplots(1, len(policies), figsize=(4 * len(policies), 3.4), sharey=True, squeeze=False)
    for panel, policy in zip(panels[0], policies, strict=True):
        for training in (t for t in trainings if t.policy == policy):
            colour = "tab:blue" if training.place == HEALTHY else "tab:red"
            panel.semilogy(_middles(len(training.epochs)), training.epochs, colour, label=training.place)
        if mended is not None and policy == POLICIES[0]:
            losses = np.asarray(mended.substituted)
            losses = losses[: len(losses) // NUM_BATCHES * NUM_BATCHES].reshape(-1, NUM_BATCHES).mean(axis=1)
            panel.semilogy(_middles(len(losses)), losses, "k--", label=f"{FAULTY},\nhidden layers by the reference")
        panel.set(title=policy, xlabel="step")
        panel.legend(fontsize=7)
    panels[0][0].set_ylabel("loss, mean of an epoch")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def _middles(num_epochs: int) -> np.ndarray:
    return (np.arange(num_epochs) + 0.5) * NUM_BATCHES


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        "python -m benchmarks.story", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--steps", type=int, default=STEPS, help=f"whole epochs of {NUM_BATCHES} (default: %(default)s)")
    made.add_argument("--plot", type=Path, metavar="PNG", help="draw the losses")
    made.add_argument("--trace", type=Path, metavar="FOLDER", help="keep the trace of the judged step here")
    return made


def main() -> int:
    options = parser().parse_args()
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from diag.report import substitution, terminal

    steps = options.steps // NUM_BATCHES * NUM_BATCHES
    print(HEADER)
    trainings = []
    for policy in POLICIES:
        for place in (HEALTHY, FAULTY):
            trainings.append(train(policy, place, steps))
            print(row(trainings[-1]), flush=True)
    console = Console()
    for training in trainings:
        step = training.goes_wrong_at
        if step is not None and training.policy == POLICIES[0]:
            with TemporaryDirectory() as made:
                folder = options.trace or Path(made)
                folder.mkdir(parents=True, exist_ok=True)
                terminal.render(judged_at(training, step, folder), console, is_verbose=True)
    mended = None
    for names in ("hidden_1", "hidden_1,hidden_2"):
        mended = restored(POLICIES[0], names, steps)
        substitution.render(mended, console)
    if options.plot is not None:
        draw(trainings, mended, options.plot)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
