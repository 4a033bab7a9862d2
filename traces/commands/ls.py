"""`python -m traces ls`."""

from __future__ import annotations

import argparse

from traces.commands import flags

SCHEMA = "lockstep-trace-ls/1"


class LsCommand:
    """List what a trace holds: its steps, layers and tensors, and the worst excess of each"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        flags.add_pattern(parser)
        flags.add_steps(parser)
        parser.add_argument("--all", action="store_true", help="leave nothing out: every tensor of every step")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        from traces.inspector.address import StepSet, parse_address
        from traces.inspector.listing import listing_of
        from traces.inspector.reading import opened

        steps = StepSet(options.steps) if options.steps else None
        with opened(options.file) as trace:
            found = listing_of(trace, parse_address(options.pattern, trace.layout.lanes), steps)
        if options.json:
            from diag.common.jsonable import print_document

            print_document(SCHEMA, found.to_dict(options.all))
        else:
            from traces.views import listing as listing_text
            from traces.views import terminal

            terminal.write(lambda width: listing_text.render(found, options.all, width))
        return 0
