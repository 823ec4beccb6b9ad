"""The benchmarks of the project. See `python -m benchmarks --help`."""
