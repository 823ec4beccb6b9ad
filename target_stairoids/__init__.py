"""Send the records of any Singer tap to Stairoids as signals, each once.

The public names are `Client`, `ResponseKind` and `Signal`. Other modules may change
without notice::

    trial = Signal(
        type="trial", source="billing", contact={"email": "ada@example.com"},
        account={}, properties={},
    )
    response = Client(api_url, api_key, timeout=30).post_signal(trial.checked_text())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from target_stairoids.api.client import Client, ResponseKind
    from target_stairoids.mapping.signal import Signal

__all__ = ["Client", "ResponseKind", "Signal"]

_MODULES = {
    "Client": "api.client",
    "ResponseKind": "api.client",
    "Signal": "mapping.signal",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - mypy reads the types above
    """Import a public name at its first use, so that `--help` stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
