"""The command `stairoids-webhooks` and its subcommands."""
