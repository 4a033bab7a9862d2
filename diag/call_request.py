"""Flags of a lockstep run on a call of `fit`, and the request that they make: of the command, and from Python."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diag import allowance_file
from diag import options as flags
from diag.common.command import is_on, positive
from diag.common.keywords import options_from_keywords
from diag.common.modes import MODES, TRAIN
from diag.errors import UserError
from diag.request import LockstepRequest, open_places, request_of

OF_CHECKS = ("candidate", "reference", "execution", "units", "tf32", "deterministic", "allowances")


def add_call_flags(parser: argparse.ArgumentParser) -> None:
    """All that can be asked of such a run."""
    group = parser.add_argument_group("what is looked at")
    flags.add_steps_flag(group)
    group.add_argument("--call", type=positive, default=1, metavar="N", help="the N-th call (default: the first)")
    group.add_argument("--and-train", action="store_true", help="then go on with the script: train as it would have")
    flags.add_place_flags(parser)
    flags.add_watch_flags(parser)
    allowance_file.add_allowances_flag(parser)
    flags.add_trace_flags(parser)
    flags.add_output_flags(parser)
    parser.set_defaults(model=None, data=None, batch_size=32, seed=0, policy=None, mode=None, candidate_model=None)


def call_request(options: argparse.Namespace, command: Sequence[str], mode: str = TRAIN) -> LockstepRequest:
    """The request that flags make; `command` is kept in the trace.  mode: what the call does with a batch.

    Raises:
        UserError: it cannot be asked so.
    """
    if options.reference.startswith(flags.TRACE):
        raise UserError(
            f"--reference {options.reference}: a recorded step needs no script; python -m diag.lockstep --reference "
            f"{options.reference} runs it"
        )
    if mode not in MODES:
        raise UserError(f"mode={mode!r}: expected one of {', '.join(MODES)}")
    options.mode = mode
    return request_of(options, command)


def options_from(settings: Mapping[str, Any]) -> argparse.Namespace:
    """The same flags as keywords; raises UserError for one that there is not, or that does not take such a value."""
    return options_from_keywords(add_call_flags, settings)


def check_request(settings: Mapping[str, Any]) -> LockstepRequest:
    """What single steps of a training are checked by: nothing is written, and each starts from the model's own state.

    Raises:
        UserError: it cannot be asked so.
    """
    if unknown := [name for name in settings if name not in OF_CHECKS]:
        raise UserError(f"{unknown[0]} is no setting of single checks; expected one of {', '.join(OF_CHECKS)}")
    options = options_from(settings)
    places = flags.places_of(options)
    if places.trace is not None or places.candidate is None:
        raise UserError("single checks need a reference and a candidate that are places, such as CPU:0 and GPU:0")
    return LockstepRequest(
        folder=Path(),
        module="",
        execution=options.execution,
        open_places=open_places(options),
        reference=places.reference,
        candidate=places.candidate,
        units=options.units,
        tf32=is_on(options.tf32),
        deterministic=options.deterministic,
        allowances_file=options.allowances,
        allowances=allowance_file.read(options.allowances),
    )
