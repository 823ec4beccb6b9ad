"""target-stairoids: RECORD messages in, signals out."""

from __future__ import annotations
