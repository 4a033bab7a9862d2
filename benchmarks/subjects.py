"""Which models are measured, at which batch size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """A model that is measured.

    model, batch_size: as the flags of `diag.lockstep` name them; "" for its own model.  first_verdict: the target.
    """

    model: str
    batch_size: int
    first_verdict: float = 3.0

    @property
    def flags(self) -> list[str]:
        model = ["--model", f"benchmarks/models.py:{self.model}"] if self.model else []
        return [*model, "--batch-size", str(self.batch_size)]


SUBJECTS = {
    "mlp": Subject("mlp", 32, first_verdict=5.0),
    "lstm": Subject("lstm", 32, first_verdict=5.0),
    "cnn": Subject("", 32),
    "transformer": Subject("transformer", 4),
    "mobilenet": Subject("mobilenet", 4),
    "efficientnet": Subject("efficientnet", 4),
    "xception": Subject("xception", 8),
    "resnet50": Subject("resnet50", 4),
}
