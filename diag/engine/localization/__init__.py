"""Which ops, the fewest of them, and what kind of error: from a wrong output to a cause."""
