"""Show what TensorFlow makes of a step before it runs it: ops fused, other kernels, layouts, casts, devices.

Nothing is trained. With --taps the step is compiled a second time with the tensors that diag.lockstep watches, and
what the watching changes is said. Exit code 0: done, 2: the question could not be asked, 3: a bug of ours.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from diag import options as flags
from diag.common.command import OneLineParser, add_trust_flag, command_parser, run_command
from diag.common.jsonable import to_text
from diag.common.modes import TRAIN
from diag.machine.places import parse_place


def parser() -> OneLineParser:
    parser = command_parser("diag.graph", __doc__)
    flags.add_model_flags(parser)
    add_trust_flag(parser)
    parser.add_argument(
        "--place", metavar="PLACE", default="CPU:0", help="DEVICE[/EXECUTION][/POLICY] (default: %(default)s)"
    )
    parser.add_argument("--taps", action="store_true", help="compare with the step whose tensors are watched")
    parser.add_argument("--json", action="store_true", help="print the result as JSON and nothing else")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    return run_command("graph", parser(), run, arguments)


def run(options: argparse.Namespace) -> int:
    place = parse_place(options.place, None, options.policy)
    from diag.machine.tensorflow_import import import_tensorflow

    import_tensorflow()
    from diag.common.terminal import ReportConsole
    from diag.engine.lanes.lane import Lane
    from diag.engine.rewrites.optimized import difference, inspect_step
    from diag.engine.training.setup import Named, Traced, set_up
    from diag.report import graph as reporting

    named = Named(options.model, options.data, options.trust)
    trained = set_up(
        named,
        options.batch_size,
        1,
        options.seed,
        Traced(place.policy, place.execution == "xla", options.mode or TRAIN),
    )
    program = trained.programs(trained.batches[0])
    lane = Lane.at("candidate", place, program, options.seed)
    step, changed, unsafe = inspect_step(program, lane), None, {}
    if options.taps and step.is_known:
        changed = difference(step, inspect_step(program, lane, program.watched.ports))
        unsafe = {str(port): reason for port, reason in program.watched.refused.items()}
    if options.json:
        print(to_text(reporting.report(step, changed, unsafe)))
        return 0
    console = ReportConsole()
    reporting.render(step, console)
    if changed is not None:
        reporting.render_watched(changed, unsafe, console)
    return 0


if __name__ == "__main__":
    sys.exit(main())
