"""Faults: what a simulated place computes instead of the right result.

This is a public and stable interface.  A fault is a function

    def fault(call) -> list[np.ndarray] | None

called for every op that the place executes, eagerly or inside a compiled unit; it returns the
outputs to use instead, or None to leave them alone.  A rewriter is a function
`GraphDef -> GraphDef`, applied to everything the place compiles, as a faulty graph optimizer
would; tensors that are fetched are read by Identity nodes named `fetch/...`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from diag.engine.graphs.locations import Location
from diag.errors import UserError


@dataclass(frozen=True)
class Call:
    """One op about to return.

    inputs, outputs: numpy arrays.  For an op that writes a variable, `inputs[0]` is the
    variable's value before and `outputs[0]` its value after.  `attrs` are the op's attributes
    as Python values.  `index` is the op's place in the step, `memory` a dict that the place keeps
    from call to call.
    """

    op_type: str
    inputs: Sequence[np.ndarray]
    outputs: Sequence[np.ndarray]
    attrs: dict[str, Any]
    step: int
    index: int
    phase: str
    layer: str | None
    variable: str | None
    execution: str
    memory: dict[Any, Any]


FaultFunction = Callable[[Call], "list[np.ndarray] | None"]
Rewriter = Callable[[Any], Any]


@dataclass
class Simulation:
    """What is wrong with a place: a fault per op, a graph rewriter, or both.

    `op_types` is what the fault looks at, None for every op: it only spares the calls.
    """

    name: str
    fault: FaultFunction | None = None
    rewriter: Rewriter | None = None
    op_types: frozenset[str] | None = None
    bind: Callable[[Any, int], Any] | None = None  # takes program and seed; may return the op types to look at
    memory: dict[Any, Any] = field(default_factory=dict)
    step: int = 0
    error: UserError | None = None  # what the fault did wrong itself

    def bind_to(self, program: Any, seed: int) -> None:
        """Before the first step: a fault that strikes somewhere in a program chooses where.

        Raises UserError where the program has nothing for it.
        """
        op_types = None if self.bind is None else self.bind(program, seed)
        self.op_types = self.op_types if op_types is None else frozenset(op_types)

    def enter_step(self, step: int) -> None:
        self.step = step

    def check(self) -> None:
        """Raises the UserError of a fault that went wrong itself, once the step that called it has ended."""
        if self.error is not None:
            raise self.error

    def touches(self, op_type: str) -> bool:
        return self.fault is not None and (self.op_types is None or op_type in self.op_types)

    def apply(
        self,
        op_type: str,
        location: Location,
        attrs: dict[str, Any],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        execution: str,
    ) -> list[np.ndarray]:
        """The outputs that the place returns: the fault's, checked for number, shape and dtype."""
        if self.fault is None:
            return list(outputs)
        call = Call(
            op_type, inputs, outputs, attrs, self.step, -1 if location.index is None else location.index,
            location.phase, location.layer, location.variable, execution, self.memory,
        )  # fmt: skip
        try:
            changed = self.fault(call)
            return list(outputs) if changed is None else self._checked(op_type, changed, outputs)
        except UserError as error:
            self.error = self.error or error
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            self.error = self.error or UserError(f"fault {self.name} raised {said} for {op_type} in step {call.step}")
        return list(outputs)  # raising inside a compiled step would end in TensorFlow's own log

    def _checked(self, op_type: str, changed: Any, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        if not isinstance(changed, (list, tuple)) or len(changed) != len(outputs):
            raise UserError(
                f"fault {self.name}: expected a list of {len(outputs)} arrays (or None) for {op_type}, "
                f"received {type(changed).__name__}"
            )
        arrays = [np.asarray(array, dtype=output.dtype) for array, output in zip(changed, outputs, strict=True)]
        for array, output in zip(arrays, outputs, strict=True):
            if array.shape != output.shape:
                raise UserError(
                    f"fault {self.name}: expected shape {output.shape} for {op_type}, received {array.shape}"
                )
        return arrays
