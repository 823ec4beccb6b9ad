"""URLs and errors of databases; ledger and store have the tests of real databases."""

from __future__ import annotations

import sys

import pytest
from sqlalchemy.exc import DBAPIError

from stairoids_common.database import parsed_url, reason_of


def test_missing_driver_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(LookupError) as missing:
        parsed_url("postgresql://host/db", setting="store_url", error=LookupError)

    needed = "A store in PostgreSQL needs `pip install singer-stairoids[postgres]`."
    assert str(missing.value) == needed


def test_reason_leaves_out_the_lines_that_repeat_values() -> None:
    cause = Exception("duplicate key\nDETAIL: Key (email)=(CANARY) exists.\n")

    assert reason_of(DBAPIError("INSERT", {}, cause)) == "duplicate key"


def test_reason_of_a_system_error_has_no_path() -> None:
    assert reason_of(PermissionError(13, "Permission denied", "/CANARY")) == (
        "Permission denied"
    )
