"""Run the same batches on two places in lockstep and report where they diverge.

With no arguments: a small convolutional network on generated images, 20 steps, CPU against the
first GPU, or against a simulated one where there is none.  Prints a report and writes
runs/<time>/trace.h5 and report.json.  Exit code 0: no divergence, 1: divergence, 2: the question
could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from diag import allowance_file
from diag import options as flags
from diag.common.child import in_child, limits_of
from diag.common.command import OneLineParser, command_parser, run_command
from diag.errors import UserError
from diag.request import LockstepRequest, request_of
from diag.resume import resumed_request


def parser() -> OneLineParser:
    parser = command_parser("diag.lockstep", __doc__)
    flags.add_model_flags(parser)
    flags.add_second_model_flag(parser)
    flags.add_place_flags(parser)
    flags.add_watch_flags(parser)
    allowance_file.add_allowances_flag(parser)
    flags.add_trace_flags(parser)
    flags.add_output_flags(parser)
    flags.add_resume_flag(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    given = list(sys.argv[1:] if arguments is None else arguments)
    return run_command(
        "lockstep",
        parser(),
        lambda options: run(resumed_request(parser(), given) if options.resume else request_of(options, given)),
        given,
        left="what was whole is in the trace, and --resume FOLDER goes on with it",
    )


def run(request: LockstepRequest) -> int:
    from diag.machine.tensorflow_import import import_tensorflow
    from traces.reader import TraceReader

    if request.trace is not None:
        TraceReader(request.trace).close()  # what is no trace is refused before TensorFlow is loaded
    import_tensorflow()
    from diag.lockstep_run import run_lockstep
    from diag.printing import print_result

    return print_result(run_lockstep(request), request)


def _is_recorded(options: argparse.Namespace, given: Sequence[str]) -> bool:
    """Whether the training step comes from a trace, in a run that goes on too."""
    if not options.resume:
        return bool(options.reference.startswith(flags.TRACE))
    try:
        return resumed_request(parser(), given).trace is not None
    except UserError:
        return False  # as `main` will say


def main_in_child(arguments: Sequence[str]) -> int:
    """The command; where the training step comes from a trace, in a process of its own, as long as it takes."""
    options = parser().parse_args(arguments)
    if not _is_recorded(options, arguments):
        return main(arguments)
    return in_child("lockstep", "diag.lockstep", arguments, limits_of(options, None))


if __name__ == "__main__":
    sys.exit(main_in_child(sys.argv[1:]))
