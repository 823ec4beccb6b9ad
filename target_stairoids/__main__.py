"""`python -m target_stairoids`."""

from __future__ import annotations

from target_stairoids.target import TargetStairoids

TargetStairoids.cli()
