"""The receiver, the store, and the tap that reads it."""
