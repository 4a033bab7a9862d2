"""`python -m traces verify`."""

from __future__ import annotations

import argparse

from traces.commands import flags

SCHEMA = "lockstep-trace-verify/1"
WRONG = 1


class VerifyCommand:
    """Check a trace: its schema, its tables, every stored tensor against its checksum, and its report"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        from traces.inspector.checking import checks_of, nothing_checked
        from traces.inspector.reading import opened

        with opened(options.file) as trace:
            checks = list(checks_of(trace))
        is_sound = not nothing_checked(checks) and not any(check.problems for check in checks)
        if options.json:
            from diag.common.jsonable import print_document

            contents = {"trace": str(options.file), "sound": is_sound, "checks": [each.to_dict() for each in checks]}
            print_document(SCHEMA, contents)
        else:
            from traces.views import checking as checking_text
            from traces.views import terminal

            terminal.write(lambda width: checking_text.render(str(options.file), checks, is_sound))
        return 0 if is_sound else WRONG
