"""`python -m traces ls`."""

from __future__ import annotations

import argparse

from traces.commands import flags
from traces.inspector.address import parse_address
from traces.inspector.listing import listing_of
from traces.inspector.reading import opened
from traces.views import listing as listing_text
from traces.views.terminal import print_result

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
        steps = flags.steps_of(options)
        with opened(options.file) as trace:
            listing = listing_of(trace, parse_address(options.pattern, trace.layout.lanes).at(steps))
        print_result(
            options.json,
            SCHEMA,
            lambda: listing.to_dict(options.all),
            lambda width: listing_text.render(listing, options.all, width),
        )
        return 0
