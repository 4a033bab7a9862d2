"""How accurate each op of a place is, and what arithmetic its device does: `python -m probes`."""
