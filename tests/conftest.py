"""How long an example takes hangs on what else the machine does: no test fails of that.

Every report.json that a test makes is held against the contract.
"""

from hypothesis import settings

from diag.report import json_report
from tests.report.schema import checking

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
json_report.report = checking(json_report.report)
