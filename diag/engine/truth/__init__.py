"""Float64 truth, and the outputs of ops and of layer units held against it."""
