"""Turn the records of a stream into signals, by mappings or by inference."""
