"""One training step run in two places, judged against float64, and searched for what is wrong."""
