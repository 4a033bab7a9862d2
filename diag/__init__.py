"""tf-lockstep: which operation, at which step, computes what rounding cannot explain."""

import sys

from diag.common.stopping import end_at_once

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"]:  # python -m of one of our commands, whose own module is imported next
    end_at_once()
