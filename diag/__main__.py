"""Run the same training steps on two places and name the first operation that rounding cannot explain.

Each command says more with --help, and is `python -m` of the module of its name as well.  Exit codes are the command's
own; mostly 0: no divergence, 1: divergence, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import diag
from diag.common.command import OneLineParser, file_path, nameable
from diag.common.wording import did_you_mean

SHELLS = ("bash", "zsh")


class Listed(NamedTuple):
    """Of a module that has a `parser()`; nothing of it is loaded before it is asked for.

    function: its name there, called with the words after the command; it returns the exit code.
    """

    module: str
    help: str
    function: str = "main"

    def load(self, name: str) -> Callable[..., Any]:
        loaded: Callable[..., Any] = getattr(import_module(self.module), name)
        return loaded


COMMANDS = {
    "run": Listed("diag.run", "a training script as it is, up to its first fit, in lockstep"),
    "lockstep": Listed("diag.lockstep", "a model and data in lockstep: where do two places diverge?", "main_in_child"),
    "replay": Listed("diag.replay", "a recorded step again, bit for bit, here or elsewhere", "main_in_child"),
    "compare": Listed("diag.compare", "two traces, from two machines or versions", "main_in_child"),
    "attribute": Listed("diag.attribute", "a recorded step under switches: which one cures it?", "main_in_child"),
    "report": Listed("diag.report.__main__", "the report again from a trace: text, HTML, an issue; without TensorFlow"),
    "doctor": Listed("diag.doctor", "devices, versions, switches in force, known bad combinations"),
    "study": Listed(
        "diag.study.__main__", "places x dtype policies x seeds: which training differs by more than chance?"
    ),
    "graph": Listed("diag.graph", "what TensorFlow makes of a training step before it runs it"),
    "probes": Listed("probes.__main__", "how accurate each op is, and what arithmetic a device does"),
    "traces": Listed("traces.__main__", "look into a trace, without TensorFlow"),
}


def parser() -> OneLineParser:
    listed = "\n".join(f"  {name:<10} {command.help}" for name, command in COMMANDS.items())
    parser = OneLineParser(
        prog=diag.NAME,
        usage="%(prog)s COMMAND ...",
        description=f"{__doc__}\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", metavar="COMMAND", type=_command, help="one of these")
    parser.add_argument("arguments", metavar="...", nargs=argparse.REMAINDER, help="its own")
    parser.add_argument(
        "--print-completion", action=_PrintCompletion, choices=SHELLS, help="completion for a shell, to be sourced"
    )
    return parser


def _command(text: str) -> str:
    if text not in COMMANDS:
        reason = f"there is no {text!r}; expected one of {', '.join(COMMANDS)}{did_you_mean(text, COMMANDS)}"
        raise argparse.ArgumentTypeError(reason)
    return text


class _PrintCompletion(argparse.Action):
    """A flag that prints and ends, as --version does."""

    def __call__(self, parser: argparse.ArgumentParser, _: object, shell: Any, __: object = None) -> None:
        parser._print_message(f"{completion(shell)}\n", sys.stdout)
        parser.exit()


def completion(shell: str) -> str:
    """A program for a shell that completes commands, their flags, and file names."""
    import shtab

    whole = OneLineParser(prog=diag.NAME)
    whole.add_argument("--print-completion", choices=SHELLS, help="completion for a shell")
    subparsers = whole.add_subparsers()
    for name, command in COMMANDS.items():
        own = command.load("parser")()
        for action in own._actions:
            if action.type in (file_path, nameable):
                action.complete = shtab.FILE
        subparsers.add_parser(name, parents=[own], add_help=False, help=command.help)
    return str(shtab.complete(whole, shell))


def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    command = COMMANDS[options.command]
    code: int = command.load(command.function)(options.arguments)
    return code


if __name__ == "__main__":
    sys.exit(main())
