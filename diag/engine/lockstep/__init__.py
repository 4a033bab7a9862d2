"""Both lanes side by side: whole steps, layer units (telescope), single ops (microscope)."""
