"""What the subcommands look up in a trace, as frozen records that become JSON, or text in `traces.views`."""
