"""Run a local Stairoids: the documented API, its webhooks, and faults on demand.

In a test::

    with Sandbox(faults=[Fault(kind="status", status=503, count=1)]) as sandbox:
        send_with(api_url=sandbox.url, api_key=sandbox.api_key)
    assert len(sandbox.signals) == 1
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stairoids_sandbox.faults.faults import Fault
    from stairoids_sandbox.server import Sandbox

__all__ = ["Fault", "Sandbox"]

_MODULES = {"Fault": "faults.faults", "Sandbox": "server"}


def __getattr__(name: str) -> Any:  # noqa: ANN401 -- mypy reads the types above
    """Import a public name at its first use, so that `--help` stays quick."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
