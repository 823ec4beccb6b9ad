"""Report a run: progress, summary, report file, past runs."""
