"""What the speed of this project is measured by; `python -m benchmarks --help`."""
