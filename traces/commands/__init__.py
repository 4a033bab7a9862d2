"""python -m traces: one file a subcommand."""
