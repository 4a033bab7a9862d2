"""Flags of a lockstep run on a call of `fit`, and the request that they make: of the command, and from Python."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from diag import allowance_file
from diag import options as flags
from diag.common.command import OneLineParser, positive
from diag.errors import UserError
from diag.request import LockstepRequest, request_of


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
    parser.set_defaults(model=None, data=None, batch_size=32, seed=0, policy=None)


def call_request(options: argparse.Namespace, command: Sequence[str]) -> LockstepRequest:
    """The request that flags make; `command` is kept in the trace.

    Raises:
        UserError: it cannot be asked so.
    """
    if options.reference.startswith(flags.TRACE):
        raise UserError(
            f"--reference {options.reference}: a recorded step needs no script; python -m diag.lockstep --reference "
            f"{options.reference} runs it"
        )
    return request_of(options, command)


def options_from(settings: Mapping[str, Any]) -> argparse.Namespace:
    """Options from keywords: `check_every=10` is `--check-every 10`, True a flag by itself, None one left out.

    Raises:
        UserError: there is no such flag, or it does not take such a value.
    """
    parser = _Parser(prog="diag", add_help=False, allow_abbrev=False)
    add_call_flags(parser)
    return parser.parse_args([word for name, value in settings.items() for word in _words(name, value)])


class _Parser(OneLineParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message + self.meant(message))


def _words(name: str, value: Any) -> list[str]:
    flag = name.replace("_", "-")
    if value is None or (value is False and name != "attribute"):
        return []
    if value is True or value is False:
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}={value}"]
