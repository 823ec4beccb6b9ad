"""A foreign file is refused and not changed. A signal that is not stored is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Sandbox
from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.state.signal_log import SignalLog, StoredSignal

if TYPE_CHECKING:
    from pathlib import Path


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    text = "not a database, but long enough to look at\n" * 50
    path.write_text(text)

    with pytest.raises(UsageError, match=r"notes\.txt"):
        Sandbox(db=path)

    assert path.read_text() == text


def test_signal_that_cannot_be_stored_is_503(tmp_path: Path) -> None:
    log = SignalLog(tmp_path / "s.db")
    signal = StoredSignal(1, "sig_1", "2026-01-02T03:04:05Z", "key-1", "write", b"{}")
    log.append(signal)

    with pytest.raises(ApiError) as caught:
        log.append(signal)
    log.close()

    assert (caught.value.status, caught.value.retry_after) == (503, 1)
