"""One training step: traced, named, tapped, partitioned into layer units, kept as bytes."""
