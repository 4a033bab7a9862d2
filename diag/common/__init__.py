"""What every part of the project shares: wording, JSON, files written whole, the frame of a command."""
