"""The door: what a file must be before anything of it is used, whoever sent it."""
