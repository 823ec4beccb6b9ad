"""API keys and what their scopes allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_KEY = "sk_test_sandbox"
SCOPES = ("read", "write", "read_write", "signals:write")

_READING = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key, known by a name that is safe to show.

    Attributes:
        name: ``key-1`` for the first key given, and so on.
        scope: One of ``SCOPES``.
    """

    name: str
    scope: str

    def allows(self, method: str, path: str) -> bool:
        """Say whether the scope covers a request."""
        if self.scope == "read_write":
            return True
        if self.scope == "read":
            return method in _READING
        if self.scope == "write":
            return method not in _READING
        return method == "POST" and path == "/v1/signals"


class KeyRing:
    """The keys that work here.

    Args:
        scopes: Scope by key.

    Raises:
        UsageError: A key is empty, or its scope does not exist.
    """

    def __init__(self, scopes: Mapping[str, str]) -> None:
        self._keys: dict[bytes, ApiKey] = {}
        for number, (key, scope) in enumerate(scopes.items(), start=1):
            if not key or scope not in SCOPES:
                msg = f"key {number} needs a text and a scope of {', '.join(SCOPES)}"
                raise UsageError(msg)
            self._keys[key.encode()] = ApiKey(name=f"key-{number}", scope=scope)

    def all(self) -> list[ApiKey]:
        """List the keys, without their secrets."""
        return list(self._keys.values())

    def has(self, key: str) -> bool:
        """Say whether a key works here."""
        return key.encode() in self._keys

    def key_for(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey | None:
        """Find the key a request carries as ``Authorization: Bearer …``."""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, token = value.partition(b" ")
                if scheme.lower() == b"bearer":
                    return self._keys.get(token.strip())
                return None
        return None
