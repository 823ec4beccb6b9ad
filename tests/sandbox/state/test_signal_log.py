"""Stored signals come back in order. A foreign file is refused and not changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.state.signal_log import SignalLog, StoredSignal

if TYPE_CHECKING:
    from pathlib import Path


def a_signal(sequence: int) -> StoredSignal:
    return StoredSignal(
        sequence=sequence,
        id=f"sig_{sequence}",
        created_at="2026-01-02T03:04:05Z",
        key_name="key-1",
        key_scope="write",
        body=b"{}",
    )


def test_signals_come_back_in_order(tmp_path: Path) -> None:
    log = SignalLog(tmp_path / "s.db")
    for sequence in (1, 2, 3):
        log.append(a_signal(sequence))

    kept = list(log.all())
    log.close()

    assert kept == [a_signal(1), a_signal(2), a_signal(3)]


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at\n" * 50)

    with pytest.raises(UsageError, match=r"notes\.txt"):
        SignalLog(path)

    assert path.read_text().startswith("not a database")


def test_signal_that_cannot_be_stored_is_503(tmp_path: Path) -> None:
    log = SignalLog(tmp_path / "s.db")
    log.append(a_signal(1))

    with pytest.raises(ApiError) as caught:
        log.append(a_signal(1))
    log.close()

    assert (caught.value.status, caught.value.retry_after) == (503, 1)
