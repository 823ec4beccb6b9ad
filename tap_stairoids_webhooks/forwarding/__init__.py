"""Deliver stored events to an HTTP handler."""
