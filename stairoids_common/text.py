"""Grammar: numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 signal`, `2 signals`, `1,000 signals`.

    Args:
        one: What there is one of, a verb as well where it changes: `signal is`.
        many: What there are several of; by default with an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
