"""Figures about floating-point tensors: formats, ULP, statistics, bounds.  No TensorFlow here."""
