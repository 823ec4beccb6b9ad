"""Grammar: numbers in sentences."""

from __future__ import annotations


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 signal`, `2 signals`, `1,000 signals`.

    Args:
        one: The singular, with its verb if that changes too, such as `signal is`.
        many: The plural. By default it is the singular with an s.
    """
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"
