"""Run the target without sending: preview, suggestions, mapping tests."""
