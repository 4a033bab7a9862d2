"""How long an example takes hangs on what else the machine does: no test fails of that."""

from hypothesis import settings

settings.register_profile("tests", deadline=None)
settings.load_profile("tests")
