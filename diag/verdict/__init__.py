"""From figures to a verdict: the ladder, the causes, the blame."""
