"""The ops of a training step of widely used models, each held against the list of ops that a stored step may have.

    python -m tests.applications [NAME...]

Twelve models of keras.applications, untrained, and those of the tests and benchmarks.  Nothing is executed.  Exit
code 1: an op is not on the list.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import keras

from diag.engine.graphs.allowed_ops import beyond, nodes_of
from diag.engine.step.batch import Batch
from diag.engine.step.program import Program
from diag.engine.step.tracing import trace
from diag.engine.training.batches import ArrayBatches, Samples
from diag.engine.training.data_generated import generate
from diag.engine.training.models import prepare_training
from diag.engine.training.signature import signature_of
from tests import zoo

APPLICATIONS = {
    "ResNet50": 32, "VGG16": 32, "MobileNetV2": 32, "InceptionV3": 75, "EfficientNetB0": 32, "EfficientNetV2B0": 32,
    "Xception": 71, "DenseNet121": 32, "NASNetMobile": 32, "ConvNeXtTiny": 32, "MobileNetV3Small": 32,
    "InceptionResNetV2": 75,
}  # fmt: skip
"""Each with the smallest side of an image that it takes."""
MODULES = ("tests.zoo", "tests.faults.models", "benchmarks.models", "tests.hostile.model")
CLASSES = 10


def of_application(name: str) -> keras.Model:
    side = APPLICATIONS[name]
    return getattr(keras.applications, name)(weights=None, input_shape=(side, side, 3), classes=CLASSES)


def makers() -> Iterator[tuple[str, Callable[[], keras.Model]]]:
    """Every function of those modules that has to be given nothing and says that it gives a model."""
    for module in MODULES:
        for name, value in vars(importlib.import_module(module)).items():
            if inspect.isfunction(value) and value.__module__ == module:
                signature = inspect.signature(value)
                needed = [each for each in signature.parameters.values() if each.default is each.empty]
                if not needed and signature.return_annotation == "keras.Model":
                    yield f"{module}:{name}", value


def step_of(make: Callable[[], keras.Model]) -> Program:
    """One training step; where nothing else is said, with generated data and the loss that they ask for."""
    if make.__module__ == zoo.__name__:
        return trace(zoo.made(make), zoo.batch_for(make))
    model = make()
    inputs, targets, what = generate(signature_of(model), 2, 0)
    batch = ArrayBatches(Samples(Batch(inputs, targets), what), 2, 0)[0]
    prepare_training(model, batch.inputs, batch.targets)
    return trace(model, batch)


def main(names: Sequence[str]) -> int:
    models: dict[str, Callable[[], keras.Model]] = {name: lambda n=name: of_application(n) for name in APPLICATIONS}
    models |= dict(makers())
    is_all_allowed, all_ops = True, Counter[str]()
    print("| model | nodes | kinds of ops | not on the list |\n|---|---:|---:|---|")
    for name in names or models:
        keras.utils.clear_session()
        program = step_of(models[name])
        ops = Counter(node.op for node in nodes_of(program.graph_def))
        found = beyond(program.graph_def)
        is_all_allowed &= not found
        all_ops += ops
        what = ", ".join(each.what for each in found) or "none"
        print(f"| {name} | {ops.total():,} | {len(ops)} | {what} |", flush=True)
    print(f"| all | {all_ops.total():,} | {len(all_ops)} | {'none' if is_all_allowed else 'see above'} |")
    return 0 if is_all_allowed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
