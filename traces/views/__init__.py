"""What a subcommand prints."""
