"""Settings of a call from Python, read as the flags of a command: one parser checks both, in the same words."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from diag.common.command import OneLineParser
from diag.errors import UserError


def options_from_keywords(
    add_flags: Callable[[argparse.ArgumentParser], None], settings: Mapping[str, Any], *positional: object
) -> argparse.Namespace:
    """Options from keywords: `check_every=10` is `--check-every 10`, True a flag by itself, None one left out.

    Raises:
        UserError: there is no such flag, or it does not take such a value.
    """
    parser = _Parser(prog="diag", add_help=False)
    add_flags(parser)
    words = [word for name, value in settings.items() for word in _words(name, value)]
    return parser.parse_args([*words, "--", *map(str, positional)] if positional else words)


class _Parser(OneLineParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(message + self.meant(message))


def _words(name: str, value: Any) -> list[str]:
    flag = name.rstrip("_").replace("_", "-")  # from_=0 is --from 0
    if value is None or (value is False and name != "attribute"):
        return []
    if value is True or value is False:
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}={value}"]
