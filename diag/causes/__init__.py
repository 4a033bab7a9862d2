"""What kind of wrong: hypotheses about one output, tried on arrays alone."""
