"""Receive webhooks over HTTP: verify and store each delivery, then respond 200."""
