"""Bring every record of a run to its outcome."""
