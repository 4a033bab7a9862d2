"""What a trace keeps in full: which tensors of which steps, as a person writes it.

Statistics and checksums are kept of everything, whatever is chosen here.  No TensorFlow is imported.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from diag.errors import UserError

AUTO, ALL, FLAGGED, NONE = WORDS = ("auto", "all", "flagged", "none")
_STEPS = re.compile(r"^(\d{1,18})(?:-(\d{1,18})(?::(\d{1,18}))?)?$", re.ASCII)


@dataclass(frozen=True)
class DumpPolicy:
    """`dump` is one of the words, or `layers` says which layers; `steps` which steps, all where empty."""

    dump: str = AUTO
    layers: tuple[str, ...] = ()
    steps: tuple[range, ...] = ()

    def wants_step(self, step: int, is_flagged: bool, is_first: bool) -> bool:
        """Whether tensors of a step are kept at all.  Steps named by number are kept, flagged or not."""
        if self.dump == NONE:
            return False
        if self.steps:
            return any(step in chosen for chosen in self.steps)
        return is_flagged or is_first if self.dump == FLAGGED else True

    def wants(self, layer: str | None, name: str) -> bool:
        """Whether a tensor is kept: of a layer, or of a variable by its whole name."""
        if not self.layers:
            return True
        return any(fnmatchcase(layer or "", glob) or fnmatchcase(name, glob) for glob in self.layers)

    def count(self, first: int, steps: int) -> int:
        """How many of the planned steps are kept for sure."""
        return sum(self.wants_step(step, False, step == first) for step in range(first, first + steps))


def parse_dump_policy(dump: str, steps: str | None) -> DumpPolicy:
    """From `--dump` and `--dump-steps`.

    Raises:
      UserError: neither a word nor globs, or no steps such as 0,5,10-20,100-900:50.
    """
    chosen = tuple(_steps(part) for part in steps.split(",")) if steps is not None else ()
    if dump == NONE and chosen:
        raise UserError(f"--dump none with --dump-steps {steps}: nothing would be kept; leave one of them out")
    if dump in WORDS:
        return DumpPolicy(ALL if dump == AUTO and chosen else dump, steps=chosen)
    globs = tuple(glob.strip() for glob in dump.split(","))
    if not all(globs):
        raise UserError(f"--dump {dump!r}: expected {', '.join(WORDS)}, or globs of layers such as conv2d*,dense")
    if misspelt := [glob for glob in globs if glob in WORDS]:
        raise UserError(f"--dump {dump!r}: {misspelt[0]} stands alone; name layers, or one of {', '.join(WORDS)}")
    return DumpPolicy(ALL, globs, chosen)


def _steps(text: str) -> range:
    found = _STEPS.match(text.strip())
    if not found:
        raise UserError(f"--dump-steps {text!r}: expected steps such as 0,5,10-20 or 100-900:50")
    start, stop, stride = found.groups()
    if stride == "0" or (stop is not None and int(stop) < int(start)):
        raise UserError(
            f"--dump-steps {text!r}: expected FIRST-LAST[:STRIDE] with FIRST at most LAST, STRIDE at least 1"
        )
    return range(int(start), int(stop or start) + 1, int(stride or 1))
