"""Read stored events as the records of streams."""
