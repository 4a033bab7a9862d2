"""`python -m traces export`."""

from __future__ import annotations

import argparse

from diag.common.command import file_path
from diag.errors import UserError
from traces.commands import flags
from traces.inspector.address import parse_address, parse_lanes
from traces.inspector.catalogue import Catalogue
from traces.inspector.exporting import ExportedFile, TargetFile, export_table, export_tensors
from traces.inspector.reading import opened
from traces.views import exporting as exporting_text
from traces.views.terminal import print_result

SCHEMA = "lockstep-trace-export/1"
TENSORS, TABLE = ".npz", ".csv"


class ExportCommand:
    """Write tensors, batches and snapshots to an .npz file, or the table of ops or units to a .csv file"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        flags.add_pattern(parser)
        parser.add_argument(
            "--to", metavar="OUT", type=file_path, required=True, help="the new file: OUT.npz or OUT.csv"
        )
        flags.add_steps(parser)
        flags.add_lanes(parser)
        parser.add_argument(
            "--table", choices=("ops", "units", "steps"), help="for a .csv file, which table (default: ops)"
        )
        parser.add_argument("--force", action="store_true", help="overwrite the file if there is one")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        suffix = options.to.suffix
        if suffix not in (TENSORS, TABLE):
            raise UserError(f"--to {options.to} is of no known kind; expected a name that ends in {TENSORS} or {TABLE}")
        if options.table and suffix != TABLE:
            raise UserError(f"--table {options.table} is for a {TABLE} file; received --to {options.to}")
        exported = _export(options)
        print_result(
            options.json,
            SCHEMA,
            lambda: {"trace": str(options.file), **vars(exported)},
            lambda width: exporting_text.render(exported),
        )
        return 0


def _export(options: argparse.Namespace) -> ExportedFile:
    steps, target = flags.steps_of(options), TargetFile(options.to, options.force)
    with opened(options.file) as trace:
        address = parse_address(options.pattern, trace.layout.lanes).at(steps)
        if options.to.suffix == TABLE:
            return export_table(trace, options.table or "ops", address, target)
        return export_tensors(Catalogue(trace), address, parse_lanes(options.lanes, trace.layout.lanes), target)
