"""What is to be probed: a list of probes made before anything runs, so that a person sees how far it is."""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from diag.errors import UserError
from probes.card import FAIL, UNSUPPORTED, Reading

if TYPE_CHECKING:
    from probes.subject import Subject

BUG = "bug"
FLOAT_DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class Probe:
    """One question to a place.

    `run` may give several readings, all of `family`.  Where TensorFlow has no kernel it just raises: the runner makes
    it one reading, `unsupported`.
    """

    family: str
    op: str
    dtype: str
    case: str
    run: Callable[[Subject], Iterable[Reading]]


@dataclass(frozen=True)
class Choice:
    """What a person asked for: globs of ops, dtypes and families, none meaning all of them.

    state: the folder where an exhaustive probe keeps how far it came; quiet: no progress.
    """

    ops: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    quick: bool = False
    exhaustive: bool = False
    state: Path | None = None
    quiet: bool = False

    def wants(self, probe: Probe) -> bool:
        return (
            (not self.ops or any(fnmatchcase(probe.op.lower(), glob.lower()) for glob in self.ops))
            and (not self.dtypes or probe.dtype in self.dtypes)
            and (not self.families or probe.family in self.families)
        )


def planned(choice: Choice) -> list[Probe]:
    """Every probe that a choice asks for, family by family."""
    from probes.families import MODULES, probes_of

    families = [name for name in MODULES if not choice.families or name in choice.families]
    return [probe for family in families for probe in probes_of(family, choice) if choice.wants(probe)]


def carried_out(probes: Iterable[Probe], subject: Subject, watch: Callable[[Probe], None]) -> Iterator[Reading]:
    """The readings of each probe in turn; `watch` is told which one begins."""
    from tensorflow.errors import OpError

    from probes.subject import NOT_SUPPORTED

    for probe in probes:
        watch(probe)
        try:
            yield from probe.run(subject)
        except NOT_SUPPORTED as error:
            yield Reading(probe.family, probe.op, probe.dtype, probe.case, UNSUPPORTED, reason(error))
        except MemoryError:
            yield Reading(probe.family, probe.op, probe.dtype, probe.case, FAIL, "ran out of memory")
        except OpError as error:
            said = f"raised {type(error).__name__}: {reason(error)}"
            yield Reading(probe.family, probe.op, probe.dtype, probe.case, FAIL, said)
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            says = f"a bug of ours: {type(error).__name__}: {reason(error)}"
            yield Reading(probe.family, probe.op, probe.dtype, f"{probe.case} (bug)", UNSUPPORTED, says, {BUG: True})


_OF_THE_CALL = re.compile(r"\{\{function_node [^}]*\}\} ?")
_NO_XLA_KERNEL = re.compile(r"No registered '(\w+)' OpKernel for XLA")
_NO_KERNEL = re.compile(r"Could not find device for node: .*?= (\w+)\[(.*?)\]")
_WHERE = re.compile(r"\s*(\[\[\{\{node.*|\[Op:\w+\].*)$")
MOST_CHARACTERS = 200
_DTYPES = {"half": "float16", "float": "float32", "double": "float64"}
_NOISE = (
    "Graph execution error",
    "Detected at node",
    "<stack traces",
    "Detected unsupported operations",
    "File ",
    "[[",
)


def reason(error: Exception) -> str:
    """What an error says, without where TensorFlow met it: names of functions differ from run to run."""
    text = _OF_THE_CALL.sub("", str(error)).strip()
    missing = _NO_XLA_KERNEL.search(text)
    if missing:
        return f"XLA has no kernel of {missing.group(1)}"
    missing = _NO_KERNEL.search(text)
    if missing:
        return f"no kernel of {missing.group(1)} for {_types(missing.group(2))}"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(_NOISE)]
    return _WHERE.sub("", lines[0])[:MOST_CHARACTERS].rstrip() if lines else type(error).__name__


def _types(attributes: str) -> str:
    """Of T=DT_HALF, padding="VALID": half.  What else an op was asked is not what it has no kernel for."""
    found = dict.fromkeys(name.lower() for name in re.findall(r"=DT_(\w+)", attributes))
    return ", ".join(_DTYPES.get(name, name) for name in found) or attributes
