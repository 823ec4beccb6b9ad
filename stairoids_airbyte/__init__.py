"""Airbyte connectors: a destination for signals and a source of webhooks."""
