"""A file that is no database of ours is refused and left as it was."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox.exceptions import ApiError, UsageError
from stairoids_sandbox.state.signal_log import Entry, Journal

if TYPE_CHECKING:
    from pathlib import Path


def an_entry(sequence: int) -> Entry:
    return Entry(
        sequence=sequence,
        id=f"sig_{sequence}",
        created_at="2026-01-02T03:04:05Z",
        key_name="key-1",
        key_scope="write",
        body=b"{}",
    )


def test_entries_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s.db")
    for sequence in (1, 2, 3):
        journal.append(an_entry(sequence))

    kept = list(journal.entries())
    journal.close()

    assert kept == [an_entry(1), an_entry(2), an_entry(3)]


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, but long enough to look at\n" * 50)

    with pytest.raises(UsageError, match=r"notes\.txt"):
        Journal(path)

    assert path.read_text().startswith("not a database")


def test_entry_that_is_not_kept_is_answered_503(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "s.db")
    journal.append(an_entry(1))

    with pytest.raises(ApiError) as caught:
        journal.append(an_entry(1))
    journal.close()

    assert (caught.value.status, caught.value.retry_after) == (503, 1)
