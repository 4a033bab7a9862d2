"""tf-lockstep: which operation, at which step, computes what rounding cannot explain."""

__version__ = "0.1.0"
