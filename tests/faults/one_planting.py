"""One planting: a fault in a model, and what is right to say of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

TESTS = Path(__file__).parent.parent
ZOO = TESTS / "zoo.py"
OWN, PLANTED, UNSEEN, REWRITERS, VARIOUS, STREAMS, MODERN, OUTSIDE = (
    Path(__file__).with_name(f"{name}.py")
    for name in ("models", "planted", "unseen", "rewriters", "various", "streams", "modern", "outside")
)
F16, BF16 = "mixed_float16", "mixed_bfloat16"


@dataclass(frozen=True)
class Planting:
    """One run: a place, a model, and what is right to say; no causes for a control."""

    place: str
    model: str
    causes: tuple[str, ...] = ()  # a cause is right if it starts with one of these
    blame: str = "kernel"
    policy: str = "float32"
    data: str | None = None
    steps: int = 2
    seed: int = 0
    arguments: tuple[str, ...] = ()
    noted: str = ""  # what a control's notes have to mention
    least_steps: int = 0  # changes of no more steps of the format are roundings of ties
    is_chance: bool = False  # it strikes now and then: wherever it did may be named
    is_aimed: bool = False  # at one step and one op, which the seed draws

    @property
    def is_control(self) -> bool:
        return not self.causes

    @property
    def name(self) -> str:
        policy = "" if self.policy == "float32" else f"/{self.policy}"
        seed = f" seed {self.seed}" if self.seed else ""
        seed += " aimed" if self.is_aimed else ""
        return f"{self.fault} in {self.model.split(':')[-1]}{policy}{seed}"

    @property
    def fault(self) -> str:
        """The place in short."""
        return re.sub(r"(sim|rewrite):.*:", r"\1:", self.place)

    def command(self, folder: Path) -> list[str]:
        policy = [] if self.policy == "float32" else ["--policy", self.policy]
        data = [] if self.data is None else ["--data", self.data if ":" in self.data else f"{OWN}:{self.data}"]
        return [
            "--model", self.model, "--candidate", self.place, "--steps", str(self.steps), "--batch-size", "4",
            "--seed", str(self.seed), "--out", str(folder), "--quiet", "--dump", "none", *policy, *data,
            *self.arguments,
        ]  # fmt: skip


def zoo(name: str) -> str:
    return f"{ZOO}:{name}"


def own(name: str) -> str:
    return f"{OWN}:{name}"
