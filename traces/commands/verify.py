"""`python -m traces verify`."""

from __future__ import annotations

import argparse

from traces.commands import flags
from traces.inspector.checking import checks_of, nothing_checked
from traces.inspector.reading import opened
from traces.views import checking as checking_text
from traces.views.terminal import print_result

SCHEMA = "lockstep-trace-verify/1"
WRONG = 1


class VerifyCommand:
    """Check a trace: its schema, its tables, every stored tensor against its checksum, and its report"""

    def prepare_parser(self, parser: argparse.ArgumentParser) -> None:
        flags.add_trace(parser)
        flags.add_json(parser)

    def run(self, options: argparse.Namespace) -> int:
        path = str(options.file)
        with opened(options.file) as trace:
            checks = list(checks_of(trace))
        is_sound = not nothing_checked(checks) and not any(check.problems for check in checks)
        print_result(
            options.json,
            SCHEMA,
            lambda: {"trace": path, "sound": is_sound, "checks": checks},
            lambda width: checking_text.render(path, checks, is_sound),
        )
        return 0 if is_sound else WRONG
