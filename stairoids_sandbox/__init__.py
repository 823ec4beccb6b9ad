"""A local Stairoids: the documented API and its webhooks, as a program."""
