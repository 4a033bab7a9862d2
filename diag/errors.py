"""What a person did that the program cannot act on."""

from __future__ import annotations


class UserError(Exception):
    """The question could not be asked: bad usage, a missing device, an unreadable file.

    The message is one line for a person: what was given, what was expected, what to do.
    A command prints it on stderr and exits with `exit_code`; every other exception is a bug
    of ours and keeps its traceback.
    """

    exit_code = 2
