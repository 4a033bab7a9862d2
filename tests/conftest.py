"""How long an example takes hangs on what else the machine does: no test fails of that.

Every report.json that a test makes is held against the contract.
"""

from __future__ import annotations

import gc

from hypothesis import settings

from diag.report import json_report
from tests.report.schema import checking

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
json_report.report = checking(json_report.report)


def pytest_collection_finish() -> None:
    """What is imported by now stays: no collection of garbage, of which each run makes one, goes through it again."""
    gc.collect()
    gc.freeze()
