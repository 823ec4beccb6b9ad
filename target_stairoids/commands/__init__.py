"""The commands of `stairoids-signals`, a module for each group."""
