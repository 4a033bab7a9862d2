"""How accurate each op of a place is, and what arithmetic its device does: `python -m probes`."""

import diag as diag  # first of all: from here on Ctrl-C ends python -m probes in one line
