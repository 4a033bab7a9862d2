"""What a person asks to train: a model, its loss and optimizer, its data."""
