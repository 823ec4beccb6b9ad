"""The command `stairoids-signals` and its subcommands."""
