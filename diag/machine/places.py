"""Places: where and how something is computed, `DEVICE[/EXECUTION][/POLICY]`.

Parsing needs no TensorFlow, so that a mistyped place is refused before anything is loaded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from diag.common.wording import nearest
from diag.errors import UserError

EXECUTIONS = ("eager", "graph", "xla")
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float16", "bfloat16", "float64")
GRAMMAR = (
    "DEVICE[/EXECUTION][/POLICY], where DEVICE is CPU:N, GPU:N, sim:NAME, sim:FILE.py:FUNCTION or "
    f"rewrite:FILE.py:FUNCTION, EXECUTION is {', '.join(EXECUTIONS)} and POLICY is {', '.join(POLICIES)}"
)
_DEVICE = re.compile(r"(CPU|GPU):[0-9]{1,4}")
_SIMULATED = re.compile(r"(sim|rewrite):(.+)")
_LIKE_A_DEVICE = re.compile(
    r"/?(device:)?(?P<kind>cpu|gpu|cuda|metal|mps)[^\w/]?(?P<number>[0-9]{0,4})(?P<rest>(/\w+)*)", re.IGNORECASE
)
"""What other programs call one: gpu, GPU0, cuda:0, /device:GPU:0."""


@dataclass(frozen=True)
class Place:
    """Where and how: `simulation` is what stands after `sim:` or `rewrite:`, None on a real device.

    is_recorded: a trace names it, and no person did.
    """

    device: str
    execution: str = "graph"
    policy: str | None = None
    simulation: str | None = None
    simulation_kind: str | None = None  # sim or rewrite
    is_recorded: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        device = f"{self.simulation_kind}:{self.simulation}" if self.simulation else self.device
        return "/".join([device, self.execution, *([self.policy] if self.policy else [])])

    @property
    def is_simulated(self) -> bool:
        return self.simulation is not None

    @property
    def names_file(self) -> bool:
        """Whether it is simulated by a Python file of a person's own."""
        return self.simulation is not None and ".py:" in self.simulation

    @property
    def is_compiled(self) -> bool:
        return self.execution != "eager"

    def eagerly(self) -> Place:
        return replace(self, execution="eager")


def parse_place(text: str, execution: str | None = None, policy: str | None = None) -> Place:
    """A place from its written form; `execution` and `policy` fill in what the text leaves out.

    Raises UserError where the text is no place.
    """
    device, named_policy = _strip(text.strip(), POLICIES)
    device, named_execution = _strip(device, EXECUTIONS)
    execution = named_execution or execution or "graph"
    policy = named_policy or policy
    real, simulated = _DEVICE.fullmatch(device), _SIMULATED.fullmatch(device)
    if real:
        return Place(device, execution, policy)
    if simulated:
        kind, name = simulated.groups()
        if kind == "rewrite" and ".py:" not in name:
            raise UserError(f"--place {text!r}: rewrite: needs FILE.py:FUNCTION; a place is {GRAMMAR}")
        return Place("CPU:0", execution, policy, name, kind)
    raise UserError(f"{text!r} is no place{_place_like(text)}; expected {GRAMMAR}")


def _place_like(text: str) -> str:
    """`; did you mean GPU:0?` of a place that is nearly written as one; else empty."""
    found = _LIKE_A_DEVICE.fullmatch(text)
    if found is None:
        return ""
    device = f"{'CPU' if found['kind'].lower() == 'cpu' else 'GPU'}:{found['number'] or 0}"
    words = [nearest(word, (*EXECUTIONS, *POLICIES)) for word in found["rest"].split("/")[1:]]
    meant = "/".join([device, *words])
    return f"; did you mean {meant}?" if "" not in words and meant != text else ""


def names_execution(text: str) -> bool:
    """Whether a place, as it is written, says how it executes."""
    return _strip(_strip(text.strip(), POLICIES)[0], EXECUTIONS)[1] is not None


def _strip(text: str, words: tuple[str, ...]) -> tuple[str, str | None]:
    head, slash, tail = text.rpartition("/")
    return (head, tail) if slash and tail in words else (text, None)
