"""Run the target without sending: previews, suggestions, mapping tests."""
