"""`python -m traces show`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diag.common.command import positive
from diag.errors import UserError
from traces.commands import flags

if TYPE_CHECKING:
    from traces.inspector.address import Address, StepSet
    from traces.inspector.judgements import Judgement
    from traces.inspector.reading import InspectedTrace

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
        parser.add_argument("--op", type=int, metavar="I", help="the rows of op I in the op table")
        parser.add_argument(
            "--worst",
            type=positive,
            metavar="N",
            help=f"how many elements or rows (default: {NUM_ELEMENTS} elements, {NUM_ROWS} rows)",
        )
        parser.add_argument("--all", action="store_true", help=f"every tensor that matches, not {MAX_TENSORS}")
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        from traces.inspector.address import StepSet, parse_address
        from traces.inspector.judgements import judgements
        from traces.inspector.reading import opened
        from traces.inspector.rows import table_of

        if (options.path is None) == (options.op is None):
            raise UserError("show needs either a PATH, such as activations/dense@3 or ops, or --op I; see show --help")
        steps = StepSet(options.steps) if options.steps else None
        with opened(options.file) as trace:
            if options.op is not None:
                _show_op(options, trace, judgements(trace), steps)
                return 0
            address = parse_address(options.path, trace.layout.lanes)
            if table_of(address.pattern):
                _show_rows(options, trace, judgements(trace), address, steps)
            else:
                _show_tensors(options, trace, address, steps)
        return 0


def _show_tensors(options: argparse.Namespace, trace: InspectedTrace, address: Address, steps: StepSet | None) -> None:
    from traces.inspector.address import parse_lanes
    from traces.inspector.catalogue import Catalogue
    from traces.inspector.inspection import views_of

    lanes = (address.lane,) if address.lane else parse_lanes(options.lanes, trace.layout.lanes)
    limit = None if options.all else MAX_TENSORS
    views, num_hidden = views_of(Catalogue(trace), address, steps, lanes, options.worst or NUM_ELEMENTS, limit)
    if options.json:
        from diag.common.jsonable import print_document

        contents = {"trace": str(trace.path), "tensors": [view.to_dict() for view in views], "num_hidden": num_hidden}
        print_document(TENSORS_SCHEMA, contents)
    else:
        from traces.views import inspection as inspection_text
        from traces.views import terminal

        terminal.write(lambda width: inspection_text.render(str(trace.path), views, num_hidden, width))


def _show_op(
    options: argparse.Namespace, trace: InspectedTrace, rows: Sequence[Judgement], steps: StepSet | None
) -> None:
    from traces.inspector.rows import rows_of_op

    views = rows_of_op(trace, rows, options.op, steps)
    if options.json:
        from diag.common.jsonable import print_document

        print_document(ROWS_SCHEMA, {"trace": str(trace.path), "rows": [view.to_dict() for view in views]})
    else:
        from traces.views import rows as rows_text
        from traces.views import terminal

        terminal.write(lambda width: rows_text.render_op(str(trace.path), views, width))


def _show_rows(
    options: argparse.Namespace,
    trace: InspectedTrace,
    rows: Sequence[Judgement],
    address: Address,
    steps: StepSet | None,
) -> None:
    from traces.inspector.rows import worst_rows

    views, num_rows = worst_rows(trace, rows, address, steps, options.worst or NUM_ROWS)
    if options.json:
        from diag.common.jsonable import print_document

        contents = {"trace": str(trace.path), "rows": [view.to_dict() for view in views], "num_rows": num_rows}
        print_document(ROWS_SCHEMA, contents)
    else:
        from traces.views import rows as rows_text
        from traces.views import terminal

        terminal.write(lambda width: rows_text.render_worst(str(trace.path), views, num_rows, width))
