"""`python -m traces show`."""

from __future__ import annotations

import argparse

from diag.common.command import not_negative, positive
from diag.errors import UserError
from traces.commands import flags
from traces.inspector.address import Address, StepSet, parse_address, parse_lanes
from traces.inspector.catalogue import Catalogue
from traces.inspector.inspection import inspect_tensors
from traces.inspector.reading import InspectedTrace, opened
from traces.inspector.rows import rows_of_op, table_of, worst_rows
from traces.views import inspection as inspection_text
from traces.views import rows as rows_text
from traces.views.terminal import print_result

TENSORS_SCHEMA, ROWS_SCHEMA = "lockstep-trace-show/1", "lockstep-trace-rows/1"
MAX_TENSORS = 8
NUM_ELEMENTS, NUM_ROWS = 10, 20


class ShowCommand:
    """Show a tensor: its statistics, ULP histogram and worst elements with their bits; or the rows of an op"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        parser.add_argument(
            "path",
            metavar="PATH",
            nargs="?",
            help="KIND/NAME[@STEPS[:LANE]] with globs, such as activations/dense@3; without a step, the worst one. "
            "Or ops or units for their worst rows, or some of them, such as 'ops/dense*'",
        )
        flags.add_steps(parser)
        flags.add_lanes(parser)
        parser.add_argument(
            "--op",
            type=not_negative,
            metavar="I",
            help="op I: its attributes, what it reads, which line made it, and its rows in the op table",
        )
        parser.add_argument(
            "--worst",
            type=positive,
            metavar="N",
            help=f"how many elements or rows (default: {NUM_ELEMENTS} elements, {NUM_ROWS} rows)",
        )
        parser.add_argument("--all", action="store_true", help=f"every tensor that matches, not {MAX_TENSORS}")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        if (options.path is None) == (options.op is None):
            raise UserError("show needs either a PATH, such as activations/dense@3 or ops, or --op I; see show --help")
        steps = flags.steps_of(options)
        with opened(options.file) as trace:
            if options.op is not None:
                _show_op(options, trace, steps)
                return 0
            address = parse_address(options.path, trace.layout.lanes).at(steps)
            if table_of(address.pattern):
                _show_rows(options, trace, address)
            else:
                _show_tensors(options, trace, address)
        return 0


def _show_tensors(options: argparse.Namespace, trace: InspectedTrace, address: Address) -> None:
    path, limit = str(trace.path), None if options.all else MAX_TENSORS
    lanes = (address.lane,) if address.lane else parse_lanes(options.lanes, trace.layout.lanes)
    tensors, num_hidden = inspect_tensors(Catalogue(trace), address, lanes, options.worst or NUM_ELEMENTS, limit)
    print_result(
        options.json,
        TENSORS_SCHEMA,
        lambda: {"trace": path, "tensors": tensors, "num_hidden": num_hidden},
        lambda width: inspection_text.render(path, tensors, num_hidden, width),
    )


def _show_op(options: argparse.Namespace, trace: InspectedTrace, steps: StepSet | None) -> None:
    path, rows = str(trace.path), rows_of_op(trace, options.op, steps)
    op = trace.described_ops().get(options.op)
    print_result(
        options.json,
        ROWS_SCHEMA,
        lambda: {"trace": path, "op": op, "rows": rows},
        lambda width: rows_text.render_op(path, op, rows, width),
    )


def _show_rows(options: argparse.Namespace, trace: InspectedTrace, address: Address) -> None:
    path = str(trace.path)
    rows, num_rows = worst_rows(trace, address, options.worst or NUM_ROWS)
    print_result(
        options.json,
        ROWS_SCHEMA,
        lambda: {"trace": path, "rows": rows, "num_rows": num_rows},
        lambda width: rows_text.render_worst(path, rows, num_rows, width),
    )
