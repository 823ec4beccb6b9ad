"""Compile and evaluate the expressions of mappings."""
