"""What TensorFlow made of a step before it ran it."""
