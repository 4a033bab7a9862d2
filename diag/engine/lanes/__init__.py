"""A step executed at a place: compiled or op by op, with variables of its own."""
