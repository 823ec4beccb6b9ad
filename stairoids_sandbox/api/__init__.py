"""Serve the documented API under ``/v1``, and the controls under ``/_sandbox``."""
