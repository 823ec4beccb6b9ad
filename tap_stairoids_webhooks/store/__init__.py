"""The event store: a database of verified events."""
