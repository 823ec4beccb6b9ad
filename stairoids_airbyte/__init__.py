"""The Airbyte face of both plugins: a destination for signals, a source of webhooks."""
