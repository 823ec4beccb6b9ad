"""Receive webhooks over HTTP: verify, store, then answer 200."""
