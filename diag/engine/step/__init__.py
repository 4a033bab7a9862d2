"""One training step: traced, its tensors named and watched, cut into layer units, kept as bytes."""
