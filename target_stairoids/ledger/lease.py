"""A lease: the proof that a run lives, which the system takes back when it dies.

Never a clock: a run that was paused for an hour still lives, and one that was killed a
millisecond ago does not.
"""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path


class Leases(Protocol):
    """The leases of all runs on one ledger."""

    def take(self, run: int) -> None:
        """Take this process's lease."""

    def lives(self, run: int) -> bool:
        """Say whether some process holds the lease of a run."""

    def release(self) -> None:
        """Give this process's lease back."""


class NoLeases:
    """For a ledger that no other process can see."""

    def take(self, run: int) -> None:
        """Do nothing: nobody asks."""

    def lives(self, run: int) -> bool:  # noqa: ARG002 - the protocol has the argument
        """Return False: what another run left cannot be in use."""
        return False

    def release(self) -> None:
        """Do nothing: nothing was taken."""


class FileLeases:
    """Leases as locked files beside an SQLite ledger.

    Args:
        ledger: The ledger's file.
    """

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._held: tuple[int, Path] | None = None

    def take(self, run: int) -> None:
        """Take this process's lease; the system drops it when the process ends."""
        path = self._path(run)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._held = (descriptor, path)

    def lives(self, run: int) -> bool:
        """Say whether some process holds the lease of a run."""
        try:
            descriptor = os.open(self._path(run), os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            self._path(run).unlink(missing_ok=True)
            return False
        finally:
            os.close(descriptor)

    def release(self) -> None:
        """Give this process's lease back."""
        if self._held is not None:
            descriptor, path = self._held
            path.unlink(missing_ok=True)
            os.close(descriptor)
            self._held = None

    def _path(self, run: int) -> Path:
        return self._ledger.with_name(f"{self._ledger.name}.run-{run}")
