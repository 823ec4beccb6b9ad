"""Stop a stream or a run before it does harm: first run, bulk change, limits."""
