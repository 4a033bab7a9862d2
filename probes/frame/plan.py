"""What is to be probed: a list of probes made before anything runs, so that a person sees how far it is."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from diag.engine.graphs.tf_errors import reason
from diag.errors import UserError
from probes.frame.device_report import FAIL, UNSUPPORTED, Measurement

if TYPE_CHECKING:
    from probes.frame.device import DeviceUnderTest

BUG = "bug"
FLOAT_DTYPES = ("float32", "float16", "bfloat16")
FAMILIES = {
    "fingerprint": "probes.fingerprint",
    "exact": "probes.exact",
    "accuracy": "probes.accuracy",
    "composites": "probes.composites",
    "optimizers": "probes.optimizers",
    "random": "probes.randomness",
}
"""The families in the order in which a card shows them, each with its module."""


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
    run: Callable[[DeviceUnderTest], Iterable[Measurement]]


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
    families = [name for name in FAMILIES if not choice.families or name in choice.families]
    return [
        probe for family in families for probe in import_module(FAMILIES[family]).probes(choice) if choice.wants(probe)
    ]


def carried_out(
    probes: Iterable[Probe], device: DeviceUnderTest, watch: Callable[[Probe], None]
) -> Iterator[Measurement]:
    """The readings of each probe in turn; `watch` is told which one begins."""
    from tensorflow.errors import OpError

    from probes.frame.device import NOT_SUPPORTED

    for probe in probes:
        watch(probe)
        try:
            yield from probe.run(device)
        except NOT_SUPPORTED as error:
            yield Measurement(probe.family, probe.op, probe.dtype, probe.case, UNSUPPORTED, reason(error))
        except MemoryError:
            yield Measurement(probe.family, probe.op, probe.dtype, probe.case, FAIL, "ran out of memory")
        except OpError as error:
            said = f"raised {type(error).__name__}: {reason(error)}"
            yield Measurement(probe.family, probe.op, probe.dtype, probe.case, FAIL, said)
        except UserError:
            raise
        except Exception as error:
            traceback.print_exc()
            says = f"a bug of ours: {type(error).__name__}: {reason(error)}"
            yield Measurement(
                probe.family, probe.op, probe.dtype, f"{probe.case} (bug)", UNSUPPORTED, says, {BUG: True}
            )
