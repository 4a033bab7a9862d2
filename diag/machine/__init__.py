"""What this machine is, where a thing may run on it, and every switch that changes its arithmetic."""
