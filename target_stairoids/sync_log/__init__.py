"""The sync log: sent signals, runs and dead letters as the streams of a tap."""
