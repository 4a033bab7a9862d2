"""A run from the first step to the last, and its perturbed twins."""
