"""A probe, its reading, the card, and the place that is asked."""
