"""One frame for every command: parser, one-line errors, exit codes."""

from __future__ import annotations

import argparse


class OneLineParser(argparse.ArgumentParser):
    """Says in one line what was given and what was expected, and exits with 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def positive(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, received {text!r}")
    return value


def not_negative(text: str) -> int:
    if text == "0":
        return 0
    try:
        return positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, received {text!r}") from error
