"""URLs and errors of databases; ledger and store have the tests of real databases."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from stairoids_common.database import engine_of, name_of, parsed_url, reason_of

if TYPE_CHECKING:
    from pathlib import Path


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


def test_reason_of_a_file_that_cannot_be_opened_has_the_remedy_for_a_read_only_disk(
    tmp_path: Path,
) -> None:
    engine = engine_of(make_url(f"sqlite:///{tmp_path}"))  # a folder

    with pytest.raises(DBAPIError) as failure:
        engine.connect()

    remedy = "copy its files to a folder that you may write to"
    assert reason_of(failure.value).endswith(remedy)


def test_reason_of_a_system_error_has_no_path() -> None:
    assert reason_of(PermissionError(13, "Permission denied", "/CANARY")) == (
        "Permission denied"
    )


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *(
            (f"postgresql://{rest}", "write `%40` for `@`, `%2F` for `/`")
            for rest in (
                "me:p@CANARY@host/db",
                "me:p@CANARY/x@host/db",
                "me:p/x@CANARY@host/db",
                "me:p@CANARY?x@host/db",
                "me:p@CANARY?x=1@host/db",
                "host:5432/db?password=p@CANARY",
                "me@tenant:CANARY@host/db",
            )
        ),
        *(
            (f"sqlite:{rest}", "with three slashes and without options")
            for rest in (
                *("//", "///", "///:memory:", "//?"),
                "//ledger.db",
                "///file::memory:",
                "///file::memory:?cache=shared&uri=true",
                "///file:ledger.db?mode=memory&uri=true",
                "///ledger.db?mode=memory",
                "///ledger.db?password=CANARY",
            )
        ),
        ("sqlite+pysqlite:///:memory:", "must name a file with three slashes"),
        ("sqlite:///~nobody-here/ledger.db", "unknown user"),
        ("sqlite:///$HOME/ledger.db", "names `$HOME`, and no variable is read"),
        ("sqlite:////data/${RUN}/ledger.db", "names `${RUN}`, and"),
        ("sqlite:///led\0ger.db", "not an SQLAlchemy URL"),
        ("postgresql://host:CANARY/db", "not an SQLAlchemy URL"),
        ("mysql://u:CANARY@host/db", "must name SQLite or PostgreSQL, not mysql"),
    ],
)
def test_url_that_would_forget_or_expose_something_is_refused_with_a_hint(
    url: str, reason: str
) -> None:
    with pytest.raises(LookupError) as refused:
        parsed_url(url, setting="ledger_url", error=LookupError)

    assert str(refused.value).startswith("`ledger_url` ")
    assert reason in str(refused.value)
    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("postgres://me:CANARY@host/db", "postgresql+psycopg://me:***@host/db"),
        (
            " postgresql://me:C/AN%40ARY@host/db\n",
            "postgresql+psycopg://me:***@host/db",
        ),
        ("postgresql://host/db?password=CAN@ARY", "postgresql+psycopg://host/db"),
        ("postgresql:///db?host=/run/pg&user=me", "postgresql+psycopg:///db"),
        ("sqlite:////tmp/a%20b.db", "sqlite:////tmp/a b.db"),
    ],
)
def test_name_of_a_database_has_no_password(url: str, name: str) -> None:
    parsed = parsed_url(url, setting="ledger_url", error=LookupError)

    assert name_of(parsed) == name


def test_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    parsed = parsed_url("sqlite:///~/x/l.db", setting="ledger_url", error=LookupError)

    assert parsed.database == "/home/ada/x/l.db"
