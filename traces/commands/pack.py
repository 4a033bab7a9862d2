"""`python -m traces pack`."""

from __future__ import annotations

import argparse

from diag.common.command import file_path, not_negative
from traces.commands import flags
from traces.inspector.exporting import TargetFile
from traces.inspector.reading import opened
from traces.packing import default_name, pack
from traces.views import packing as packing_text
from traces.views.terminal import print_result

SCHEMA = "lockstep-trace-pack/1"


class PackCommand:
    """Write a small trace to send: the training step, the tables, the report, the state and batch of one step"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        parser.add_argument("--step", type=not_negative, metavar="K", help="(default: that of the first divergence)")
        parser.add_argument(
            "-o", "--to", metavar="OUT", type=file_path, help="the new file (default: beside the trace, TRACE-stepK.h5)"
        )
        parser.add_argument(
            "--anonymous",
            action="store_true",
            help="leave out batches' values, paths, and names of machine and user; the step cannot be replayed then",
        )
        parser.add_argument("--force", action="store_true", help="overwrite the file if there is one")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        path = options.to or default_name(options.file, options.step, options.anonymous)
        with opened(options.file) as trace:
            packed = pack(trace, options.step, TargetFile(path, options.force), options.anonymous)
        print_result(
            options.json,
            SCHEMA,
            lambda: {"trace": str(options.file), **vars(packed)},
            lambda width: packing_text.render(packed),
        )
        return 0
