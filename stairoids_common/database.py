"""Set up a database: an SQLite file or a PostgreSQL server."""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    Integer,
    Text,
    create_engine,
    event,
    make_url,
)
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.types import TypeEngine

from stairoids_common.config import local_path
from stairoids_common.text import shell_command

#: For SQLite: a commit survives a power cut, and deleted personal data is overwritten.
SAFE_WRITES = ("journal_mode = WAL", "synchronous = FULL", "secure_delete = ON")

#: How long SQLite waits for a lock, by default.
BUSY_SECONDS = 30.0

#: The server restarts, has no connection left, or a proxy closed the connection.
_BRIEF_REFUSAL = re.compile(
    r"closed (the connection )?unexpectedly|EOF detected|Connection reset by peer"
    r"|the database system is |too many (clients already|connections for )"
    r"|remaining connection slots are "
)

#: Numbers that a database may count up. SQLite does so with 64 bits.
BIG_ID = BigInteger().with_variant(Integer, "sqlite")
_Type = type[TypeEngine[Any]] | TypeEngine[Any]


def key(*names: str, kind: _Type = Text) -> list[Column[Any]]:
    """Return columns of a primary key."""
    return [Column(name, kind, primary_key=True) for name in names]


def required(kind: _Type, *names: str) -> list[Column[Any]]:
    """Return columns that are never null."""
    return [Column(name, kind, nullable=False) for name in names]


def optional(kind: _Type, *names: str) -> list[Column[Any]]:
    """Return columns that may be null."""
    return [Column(name, kind) for name in names]


def parsed_url(url: str, *, setting: str, error: type[Exception]) -> URL:
    """Return a URL with the right driver and an absolute path, or raise `error`.

    The message names the setting, such as `ledger_url`, and holds no password.
    """
    noun = setting.removesuffix("_url")
    try:
        parsed = make_url(url.strip())
        kind = parsed.get_backend_name().lower()
    except (ArgumentError, ValueError):
        kind = ""
    if not kind or "\0" in url:
        raise error(
            f"`{setting}` is not an SQLAlchemy URL such as sqlite:///{noun}.db."
        )
    if kind == "sqlite":
        return _file_url(parsed, setting, error)
    if kind not in {"postgres", "postgresql"}:
        raise error(f"`{setting}` must name SQLite or PostgreSQL, not {kind}.")
    # A password with `@`, or with `@` after `:` in a query, is split at a wrong place.
    if url.count("@") > 1 or re.search(r"\?\w+=", parsed.password or ""):
        raise error(
            f"`{setting}` has `@` or `?` at a place where it separates other parts. "
            "In a password, write `%40` for `@`, `%2F` for `/` and `%3F` for `?`."
        )
    if find_spec("psycopg") is None:
        raise error(
            f"A {noun} in PostgreSQL needs `pip install singer-stairoids[postgres]`."
        )
    return parsed.set(drivername="postgresql+psycopg")


def _file_url(parsed: URL, setting: str, error: type[Exception]) -> URL:
    noun, path = setting.removesuffix("_url"), parsed.database or ""
    is_memory = path in {"", ":memory:"}  # and is lost at the end of the program
    if parsed.host or parsed.query or is_memory or path.startswith("file:"):
        raise error(
            f"`{setting}` must name a file with three slashes and without options: "
            f"sqlite:///{noun}.db, or sqlite:////absolute/path/{noun}.db."
        )
    try:
        found = local_path(path).resolve()
    except OSError as problem:
        raise error(f"`{setting}` names {problem.strerror}.") from None
    return parsed.set(drivername="sqlite", database=str(found))


def name_of(url: URL) -> str:
    """Return a URL for people: without password and without driver options."""
    return url.set(query={}).render_as_string(hide_password=True)


def file_of(url: URL) -> Path | None:
    """Return the file of an SQLite URL; None in memory or on a server."""
    in_memory = url.database in {None, "", ":memory:"}
    if url.get_backend_name() != "sqlite" or in_memory:
        return None
    return Path(str(url.database)).expanduser().resolve()


def check_folder(path: Path) -> None:
    """Raise `FileNotFoundError` if the folder of a database is missing.

    Its name may be mistyped, or its disk not mounted. Then a new database would forget
    everything. A `.stairoids` is created when it is needed, in a folder that exists:
    Meltano may run in a folder below its project.
    """
    folder = path.parent
    is_default = folder.name == ".stairoids" and folder.parent.exists()
    if not (folder.exists() or is_default):
        create = shell_command("mkdir -p", str(folder))
        problem = f"the folder {folder} does not exist. Correct the path, or mount its "
        problem += f"disk. Only if both are right, run {create}"
        raise FileNotFoundError(errno.ENOENT, problem)


def create_file(path: Path) -> None:
    """Create an SQLite file for its owner only; see `check_folder`."""
    check_folder(path)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)


def engine_of(
    url: URL,
    pragmas: Sequence[str] = (),
    *,
    busy_seconds: float | None = None,
    local: Mapping[str, str] | None = None,
    **options: Any,
) -> Engine:
    """Return an engine. SQLite executes the pragmas, and its caller executes BEGIN.

    Args:
        local: Parameters of each transaction of PostgreSQL, and their values. Behind a
            pooler, those of a session would reach other programs.
    """
    if busy_seconds is None:
        busy_seconds = BUSY_SECONDS

    def set_up(connection: Any, _record: object) -> None:  # noqa: ANN401 - of sqlite3
        connection.isolation_level = None  # the driver takes the write lock too late
        try:
            for pragma in (f"busy_timeout = {busy_seconds * 1000:.0f}", *pragmas):
                connection.execute(f"PRAGMA {pragma}")
        except Exception:  # of any driver: no connection without its pragmas
            connection.close()
            raise

    engine = create_engine(url, hide_parameters=True, **options)
    is_sqlite = engine.dialect.name == "sqlite"
    event.listen(engine, "connect", set_up if is_sqlite else _stay_connected)
    if local:
        values = (
            f"set_config('{name}', '{value}', true)" for name, value in local.items()
        )
        statement = f"SELECT {', '.join(values)}"
        event.listen(engine, "begin", lambda c: c.exec_driver_sql(statement))
    return engine


def _stay_connected(connection: Any, _record: object) -> None:  # noqa: ANN401 - of psycopg
    """Let no server end the session of a slow run, from PostgreSQL 14 on."""
    connection.execute(
        "SELECT set_config(name, '0', false) FROM pg_settings"
        " WHERE name = 'idle_session_timeout'"
    )
    connection.commit()


def code_of(error: DBAPIError) -> str:
    """Return the SQLSTATE of PostgreSQL or the name of SQLite's code; "" for none.

    A server writes its texts in its own language.
    """
    found = getattr(error.orig, "sqlstate", None)
    return str(found or getattr(error.orig, "sqlite_errorname", ""))


def encoding_of(connection: Connection) -> str:
    """Return the encoding of a database in PostgreSQL if it is not UTF-8, else ""."""
    encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
    return "" if encoding == "UTF8" else str(encoding)


def may_succeed_later(reason: str) -> bool:
    """Return whether PostgreSQL refused a connection for a moment only.

    The driver has no SQLSTATE then. A server of another language is not understood.
    """
    return bool(_BRIEF_REFUSAL.search(reason))


def session_of(connection: Connection) -> str:
    """Return who looks for tables in PostgreSQL, and where; "" for SQLite."""
    if connection.dialect.name == "sqlite":
        return ""
    found = connection.exec_driver_sql("SELECT current_user, current_schema()")
    role, schema = found.one()
    return f" (role {role}, {f'schema {schema}' if schema else 'no schema'})"


def reason_of(error: Exception) -> str:
    """Return the first line of an error. More lines may repeat the values of a row."""
    cause = getattr(error, "orig", None) or getattr(error, "strerror", None)
    reason = str(cause or type(error).__name__).strip().partition("\n")[0]
    if reason == "unable to open database file":  # as SQLite says of each cause
        reason += ", so it may be a folder, or you may not write to it or to its folder"
        reason += ". SQLite writes there also to read. To read it on a read-only disk, "
        reason += "copy its files to a folder that you may write to"
    return reason
