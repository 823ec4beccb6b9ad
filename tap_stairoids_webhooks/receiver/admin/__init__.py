"""The admin listener: readiness, metrics and pages."""
