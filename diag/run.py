"""Run a training script as it is until its first `fit`, and look at what that trains in lockstep.

The script is run unchanged, as __main__ and with its own arguments.  Its first call of `fit` or `train_on_batch` is not
made: model, loss, optimizer, data, class weights and the rest are taken as they are at that moment and trained in both
places in lockstep.  Then the script ends there, and nothing that stands after the call happens, unless --and-train is
given.  Exit codes as of diag.lockstep.

  python -m diag.run [options] SCRIPT.py [its arguments]
  python -m diag.run [options] -m package.module [its arguments]
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from diag import allowance_file
from diag import options as flags
from diag.common.after_import import after_import
from diag.common.command import OneLineParser, command_parser, positive, run_command
from diag.common.script import Ended, Script
from diag.common.user_code import summary_of
from diag.errors import UserError
from diag.printing import print_result
from diag.request import LockstepRequest, request_of
from diag.verdict.result import RunResult

if TYPE_CHECKING:
    from diag.door import Door


def parser() -> OneLineParser:
    parser = command_parser("python -m diag.run", __doc__)
    add_flags(parser)
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("name", metavar="SCRIPT", help="a Python script that trains a Keras model")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the script's own")
    return parser


def add_flags(parser: argparse.ArgumentParser) -> None:
    """All that can be asked of a lockstep run on a call of `fit`."""
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


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("run", parser(), lambda options: run(options, given), given)


def run(options: argparse.Namespace, given: Sequence[str]) -> int:
    script = Script(options.name, tuple(options.arguments), options.is_module)
    script.check()
    words = given[: len(given) - len(script.words)]
    request = replace(request_for_call(options, words), script=script.words)
    return _Watched(script, request, options.call, options.and_train).run()


def request_for_call(options: argparse.Namespace, words: Sequence[str]) -> LockstepRequest:
    """The request that flags make; raises UserError where it cannot be asked so."""
    if options.reference.startswith(flags.TRACE):
        raise UserError(
            f"--reference {options.reference}: a recorded step needs no script; python -m diag.lockstep --reference "
            f"{options.reference} runs it"
        )
    return request_of(options, words)


class _Watched:
    """A script, run until the call that is looked at, or to its end."""

    def __init__(self, script: Script, request: LockstepRequest, number: int, and_train: bool) -> None:
        self.script, self.request, self.number, self.and_train = script, request, number, and_train
        self.door: Door | None = None
        self.out = sys.stdout
        self.code: int | None = None

    def run(self) -> int:
        """The exit code.

        Raises:
            UserError: the script fails or ends before that call, or the call cannot be run in lockstep.
        """
        after_import("keras", self._watch)
        with contextlib.redirect_stdout(sys.stderr if self.request.json else sys.stdout):
            self._run_script()
        if self.door is not None and self.door.error is not None:
            raise self.door.error
        if self.code is None:
            raise UserError(f"{self._seen()}: expected a call of fit or train_on_batch of a Keras model to look at")
        return self.code

    def _run_script(self) -> None:
        try:
            self.script.run()
        except Ended:
            pass
        except SystemExit as error:
            if self.code is None and error.code not in (None, 0):
                raise UserError(f"{self._seen()}, with exit code {error.code}") from error
        except Exception as error:
            raise UserError(f"{self.script.name} raised {summary_of(error, Path(self.script.name))}") from error

    def _watch(self) -> None:
        from diag.door import Door, watch

        self.door = Door(self.request, self.script.name, self._show, self.number, self.and_train)
        watch(self.door)

    def _show(self, result: RunResult) -> None:
        with contextlib.redirect_stdout(self.out):
            self.code = print_result(result, self.request)

    def _seen(self) -> str:
        calls = 0 if self.door is None else self.door.calls
        return f"{self.script.name} ended after {calls} calls of fit, {self.number} wanted"


if __name__ == "__main__":
    sys.exit(main())
