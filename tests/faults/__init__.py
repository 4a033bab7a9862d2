"""The catalogue benchmark: every simulated place planted in several models, and what the program says of it."""
