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

from diag.call_request import add_call_flags, call_request
from diag.common.after_import import after_import
from diag.common.command import OneLineParser, command_parser, nameable, run_command
from diag.common.script import Ended, Script
from diag.common.user_code import summary_of
from diag.errors import UserError
from diag.request import LockstepRequest
from diag.verdict.result import RunResult

if TYPE_CHECKING:
    from diag.door import Door


def parser() -> OneLineParser:
    parser = command_parser("diag.run", __doc__)
    add_call_flags(parser)
    parser.add_argument("-m", dest="is_module", action="store_true", help="SCRIPT is the name of a module")
    parser.add_argument("name", metavar="SCRIPT", type=nameable, help="a Python script that trains a Keras model")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="the script's own")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command("run", parser(), lambda options: run(options, given), given)


def run(options: argparse.Namespace, given: Sequence[str]) -> int:
    script = Script(options.name, tuple(options.arguments), options.is_module)
    script.check()
    words = given[: len(given) - len(script.words)]
    request = replace(call_request(options, words), module="diag.run", script=script.words)
    return _Watched(script, request, options.call, options.and_train).run()


class _Watched:
    """A script, run until the call that is looked at, or to its end."""

    def __init__(self, script: Script, request: LockstepRequest, number: int, and_train: bool) -> None:
        self.script, self.request, self.number, self.and_train = script, request, number, and_train
        self.door: Door | None = None
        self.out = sys.stdout

    def run(self) -> int:
        """The exit code.

        Raises:
            UserError: the script fails or ends before that call, or the call cannot be run in lockstep.
        """
        after_import("keras", self._watch)
        with contextlib.redirect_stdout(sys.stderr if self.request.json else sys.stdout):
            self._run_script()
        if self.code is None:
            raise UserError(f"{self._seen()}: expected a call of fit or train_on_batch of a Keras model to look at")
        return self.code

    @property
    def code(self) -> int | None:
        """Of the lockstep run; None where the call has not come yet."""
        return None if self.door is None else self.door.code

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

        self.door = Door(self.request, self.script.name, self._show, self.number, self.and_train, Ended)
        watch(self.door)

    def _show(self, result: RunResult) -> int:
        from diag.printing import print_result

        with contextlib.redirect_stdout(self.out):
            return print_result(result, self.request)

    def _seen(self) -> str:
        calls = 0 if self.door is None else self.door.calls
        return f"{self.script.name} ended after {calls} calls of fit, {self.number} wanted"


if __name__ == "__main__":
    sys.exit(main())
