"""`python -m traces export`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from diag.errors import UserError
from traces.commands import flags

if TYPE_CHECKING:
    from traces.inspector.exporting import Exported

SCHEMA = "lockstep-trace-export/1"
TENSORS, TABLE = ".npz", ".csv"


class ExportCommand:
    """Write tensors, batches and snapshots to an .npz file, or the table of ops or units to a .csv file"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        flags.add_pattern(parser)
        parser.add_argument("--to", metavar="OUT", type=Path, required=True, help="the new file: OUT.npz or OUT.csv")
        flags.add_steps(parser)
        flags.add_lanes(parser)
        parser.add_argument(
            "--table", choices=("ops", "units", "steps"), help="for a .csv file, which table (default: ops)"
        )
        parser.add_argument("--force", action="store_true", help="overwrite the file if there is one")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        form = options.to.suffix
        if form not in (TENSORS, TABLE):
            raise UserError(f"--to {options.to} is of no known kind; expected a name that ends in {TENSORS} or {TABLE}")
        if options.table and form != TABLE:
            raise UserError(f"--table {options.table} is for a {TABLE} file; received --to {options.to}")
        found = _export(options, form)
        if options.json:
            from diag.common.jsonable import print_document

            print_document(SCHEMA, {"trace": str(options.file), **found.to_dict()})
        else:
            from traces.views import exporting as exporting_text
            from traces.views import terminal

            terminal.write(lambda width: exporting_text.render(found))
        return 0


def _export(options: argparse.Namespace, form: str) -> Exported:
    from traces.inspector.address import StepSet, parse_address, parse_lanes
    from traces.inspector.catalogue import Catalogue
    from traces.inspector.exporting import export_table, export_tensors
    from traces.inspector.reading import opened

    steps = StepSet(options.steps) if options.steps else None
    with opened(options.file) as trace:
        address = parse_address(options.pattern, trace.layout.lanes)
        if form == TABLE:
            return export_table(trace, options.table or "ops", address, steps, options.to, options.force)
        lanes = parse_lanes(options.lanes, trace.layout.lanes)
        return export_tensors(Catalogue(trace), address, steps, lanes, options.to, options.force)
