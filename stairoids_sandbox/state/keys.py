"""API keys and the permissions of their scopes."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

DEFAULT_KEY = "sk_test_sandbox"
DEFAULT_WORKSPACE = "default"
SCOPES = ("read", "write", "read_write", "signals:write")

_READ_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """An API key, without the key itself.

    Attributes:
        name: ``key-1`` for the first key, and so on.
        scope: One of ``SCOPES``.
        workspace: The workspace that the key belongs to.
    """

    name: str
    scope: str
    workspace: str = DEFAULT_WORKSPACE

    def allows(self, method: str, path: str) -> bool:
        """Return whether the scope covers a request."""
        if self.scope == "read_write":
            return True
        if self.scope == "read":
            return method in _READ_METHODS
        if self.scope == "write":
            return method not in _READ_METHODS
        return method == "POST" and path == "/v1/signals"


class KeyRing:
    """The valid keys.

    Args:
        scopes: Scope by key.
        workspaces: Workspace by key, where it is not the default one.

    Raises:
        UsageError: A key is empty or unknown, or its scope does not exist.
    """

    def __init__(
        self,
        scopes: Mapping[str, str],
        workspaces: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        if not workspaces.keys() <= scopes.keys():
            raise UsageError("workspaces name a key that does not exist")
        self._keys: dict[bytes, ApiKey] = {}
        for number, (key, scope) in enumerate(scopes.items(), start=1):
            if not key or scope not in SCOPES:
                msg = f"key {number} needs a text and a scope of {', '.join(SCOPES)}"
                raise UsageError(msg)
            self._keys[key.encode()] = ApiKey(
                name=f"key-{number}",
                scope=scope,
                workspace=workspaces.get(key, DEFAULT_WORKSPACE),
            )

    def all(self) -> list[ApiKey]:
        """Return the keys in the order they were given."""
        return list(self._keys.values())

    def has(self, key: str) -> bool:
        """Return whether a key is valid."""
        return key.encode() in self._keys

    def key_for(self, headers: Iterable[tuple[bytes, bytes]]) -> ApiKey | None:
        """Return the valid key of a request's ``Authorization: Bearer …``."""
        return self._keys.get(_token_in(headers))


def masked_key(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Return the beginning of a long key in a request, and the length of any."""
    token = _token_in(headers).decode("latin-1")
    shown = token[: min(4, len(token) // 3)]
    return f"{shown}… ({len(token)} characters)" if token else "no key"


def _token_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            return token.strip() if scheme.lower() == b"bearer" else b""
    return b""
