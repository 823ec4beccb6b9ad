"""Decide which record is which: digests of records, and the rules for duplicates."""
