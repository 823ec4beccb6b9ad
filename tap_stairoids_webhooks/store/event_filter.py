"""An interest: the name of some of the events, for what a consumer wants."""

from __future__ import annotations

ALL = "*"
MALFORMED = "malformed"
_TYPE = "event:"


def of_type(event: str) -> str:
    """Name the events of one type."""
    return f"{_TYPE}{event}"


def type_in(interest: str) -> str:
    """Return the type that `of_type` named."""
    return interest.removeprefix(_TYPE)
