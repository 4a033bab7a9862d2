"""What a person's own program calls: that program is given back as it was, and asking wrongly is a ValueError."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

from diag.common.text import LONGEST, as_text
from diag.common.wording import one_line
from diag.errors import UserError
from diag.numerics.allowances import allowances_kept


@contextmanager
def as_guest() -> Iterator[None]:
    """Environment variables, TensorFlow's log level and the allowances are afterwards what they were.

    Settings of TensorFlow and random streams have context managers of their own, once it is loaded
    (diag/machine/settings.py, diag/machine/random_states.py).

    Raises:
        ValueError: for a UserError, with the line that a command would print.
    """
    variables, logger = dict(os.environ), logging.getLogger("tensorflow")
    level = logger.level
    try:
        with as_value_errors(), allowances_kept():
            yield
    finally:
        logger.setLevel(level)
        _put_back(variables)


@contextmanager
def as_value_errors() -> Iterator[None]:
    """A UserError is a ValueError, with the line that a command would print."""
    try:
        yield
    except UserError as error:
        raise ValueError(as_text(one_line(error), longest=LONGEST)) from error


def _put_back(variables: dict[str, str]) -> None:
    for name in os.environ.keys() - variables.keys():
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
