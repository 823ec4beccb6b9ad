"""Opening a ledger: URLs, permissions, other releases, reading only."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from target_stairoids.exceptions import LedgerError
from target_stairoids.ledger.dead_letters import dead_letters_of
from target_stairoids.ledger.ledger import Ledger
from tests.support.ledger_builders import API, a_version, digest, settle
from tests.support.singer_io import a_record, a_schema

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest


def read_only(url: str) -> Ledger:
    return Ledger.open_read_only(url, API, missing_ok=False)


def create(url: str) -> Ledger:
    return Ledger.create(url, API)


def open_existing(url: str) -> Ledger:
    return Ledger.open(url, API)


WAYS = pytest.mark.parametrize("way", [create, open_existing, read_only])


@pytest.mark.parametrize("below", [".", "below"])
def test_new_ledger_is_for_its_owner_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, below: str
) -> None:
    (tmp_path / below).mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path / below)
    path = tmp_path / ".stairoids" / "ledger.db"

    with create(f"sqlite:///{path}") as ledger:
        ledger.begin_run()

        modes = {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes == {0o600}


@WAYS
@pytest.mark.parametrize("version", ["5", "99"])
def test_ledger_of_another_release_is_refused_in_one_sentence(
    url: str, version: str, way: Callable[[str], Ledger]
) -> None:
    create(url).close()
    path = url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("UPDATE stairoids_meta SET value = ?", (version,))

    with pytest.raises(LedgerError) as refused:
        way(url)

    assert f"has schema version {version}," in str(refused.value)
    assert "`ledger_url`" in str(refused.value)
    assert str(refused.value).count(". ") == 1


@WAYS
@pytest.mark.parametrize("name", ["a_file/ledger.db", "a_folder", "a_file"])
def test_ledger_that_cannot_be_opened_is_one_error_with_the_setting(
    tmp_path: Path, name: str, way: Callable[[str], Ledger]
) -> None:
    (tmp_path / "a_file").write_text("no database, but long enough to be one" * 100)
    (tmp_path / "a_folder").mkdir()

    with pytest.raises(LedgerError, match="`ledger_url`") as refused:
        way(f"sqlite:///{tmp_path}/{name}")
    assert ("it may be a folder" in str(refused.value)) is (name == "a_folder")


def test_missing_folder_is_an_error_with_its_remedy(
    target: TargetUnderTest, sandbox: Sandbox
) -> None:
    folder = target.folder / "a disk" / "ledgers"
    target.config["ledger_url"] = f"sqlite:///{folder}/ledger.db"
    records = [a_schema(), a_record()]

    runs = [target.run(*records), target.run(*records, dry_run=True)]
    is_created = folder.exists()
    folder.mkdir(parents=True)
    after = target.run(*records)

    for run in runs:
        assert run.exit_code == 1
        assert f"folder {folder} does not exist. Correct the path, or" in run.error
        assert f"`mkdir -p '{folder}'`. See `ledger_url`." in run.error
    assert not is_created
    assert (after.exit_code, len(sandbox.signals)) == (0, 1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_folder_is_one_error_with_the_setting(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)

    with pytest.raises(LedgerError, match=r"Permission denied.*`ledger_url`"):
        create(f"sqlite:///{tmp_path}/ledger.db")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ledger.db",
        "CANARY",
        "mysql://u:CANARY@host/db",
        "postgresql://u:CANARY@host:port/db",
        "postgresql://u:CANARY@host:99:99/db",
        "redis://:CANARY@host",
    ],
)
def test_url_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(LedgerError, match="`ledger_url`") as refused:
        create(url)

    assert "CANARY" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:CANARY@127.0.0.1:1/db",
        "postgresql+psycopg://u:CANARY@127.0.0.1:1/db?connect_timeout=1",
        "postgresql://u@127.0.0.1:1/db?password=CANARY",
    ],
)
def test_password_is_masked_if_the_server_cannot_be_reached(url: str) -> None:
    pytest.importorskip("psycopg")

    with pytest.raises(
        LedgerError, match=r"127\.0\.0\.1:1/db .*`ledger_url`"
    ) as failed:
        create(url)

    assert "CANARY" not in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize("scheme", ["sqlite", "sqlite+pysqlite", "sqlite+aiosqlite"])
def test_sqlite_is_opened_with_the_driver_of_python(
    tmp_path: Path, scheme: str
) -> None:
    with create(f"{scheme}:///{tmp_path}/ledger.db") as ledger:
        assert ledger.name == f"sqlite:///{tmp_path}/ledger.db"


def test_tilde_is_the_home_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    create("sqlite:///~/ledger.db").close()

    assert (tmp_path / "ledger.db").stat().st_size > 0


def test_relative_path_starts_at_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with create("sqlite:///.stairoids/ledger.db") as ledger:
        assert ledger.name == f"sqlite:///{tmp_path}/.stairoids/ledger.db"

    assert (tmp_path / ".stairoids/ledger.db").exists()


@pytest.mark.parametrize("way", [open_existing, read_only])
def test_missing_ledger_is_an_error_and_not_created(
    url: str, tmp_path: Path, way: Callable[[str], Ledger]
) -> None:
    with pytest.raises(LedgerError, match=f"There is no ledger at {tmp_path}"):
        way(url)

    assert list(tmp_path.iterdir()) == []


def test_missing_ledger_may_count_as_an_empty_one(url: str, tmp_path: Path) -> None:
    with Ledger.open_read_only(url, API, missing_ok=True) as ledger:
        assert ledger.is_new()
        assert ledger.open_stream("trials", {})[0] == 0
        assert dead_letters_of(ledger) == []
        assert ledger.name == url

    assert list(tmp_path.iterdir()) == []


def test_read_only_ledger_can_be_read_and_not_written(url: str, ledger: Ledger) -> None:
    settle(ledger, a_version())

    with read_only(url) as reader:
        assert reader.states_of([a_version("v1")])
        assert reader.open_stream("trials", {"changed": True})[0] == 1
        assert reader.open_stream("new", {})[0] == 0
        with pytest.raises(LedgerError, match="reading only"):
            reader.begin_run()
        with pytest.raises(LedgerError, match="reading only"):
            settle(reader, a_version("v2"))

    assert ledger.latest_of([a_version().key])[a_version().key].state_digest == digest(
        "v1"
    )
