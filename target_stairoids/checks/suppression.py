"""Suppression: people and companies that must never get a signal."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import translate
from pathlib import Path

from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.signal import Signal


class SuppressionList:
    """Domains (with their subdomains), email addresses and patterns.

    Args:
        entries: `example.com`, `ann@example.com`, or a pattern with `*` or `?` for
            addresses and domains. Case does not matter.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        cleaned = {entry.strip().lower() for entry in entries} - {""}
        self.is_empty = not cleaned
        patterns = {entry for entry in cleaned if set(entry) & set("*?[")}
        plain = cleaned - patterns
        self._emails = {entry for entry in plain if "@" in entry}
        self._domains = plain - self._emails
        joined = "|".join(translate(pattern) for pattern in sorted(patterns))
        self._pattern = re.compile(joined) if joined else None

    def hides(self, signal: Signal) -> bool:
        """Return whether the person or company of a signal is on the list."""
        email = signal.contact.get("email", "").lower()
        domains = {signal.account.get("domain", ""), email.rpartition("@")[2]} - {""}
        if email in self._emails:
            return True
        if any(parent in self._domains for d in domains for parent in _parents(d)):
            return True
        names = domains | ({email} if email else set())
        return self._pattern is not None and any(map(self._pattern.match, names))


def _parents(domain: str) -> list[str]:
    parts = domain.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]


def entries_of(path: str | None) -> list[str]:
    """Return the entries of a suppression file. `#` starts a comment.

    Raises:
        ConfigError: It cannot be read.
    """
    if not path:
        return []
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"The file of `suppress_path` cannot be read: {why}."
        raise ConfigError(msg) from error
    return [line.partition("#")[0] for line in lines]
