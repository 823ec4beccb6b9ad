"""A PostgreSQL server."""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import create_engine, text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Connection


@contextmanager
def a_server() -> Iterator[str]:
    """Run a real PostgreSQL; skip the test where there is none for this Python."""
    pgserver = pytest.importorskip("pgserver", reason="no PostgreSQL for this Python")
    # Not in the folder of pytest, which closes it to the other user of the server.
    folder = tempfile.mkdtemp(prefix="postgres-")
    with warnings.catch_warnings(action="ignore"):  # about XDG_RUNTIME_DIR
        running = pgserver.get_server(folder)
    # At exit it logs into streams that pytest has closed by then.
    logging.getLogger("pgserver").disabled = True
    url = str(running.get_uri())
    # The tests need no protection from power cuts, which costs seconds at the end.
    with autocommit(url) as connection:
        connection.execute(text("ALTER SYSTEM SET fsync = off"))
        connection.execute(text("SELECT pg_reload_conf()"))
    yield url
    running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def autocommit(url: str) -> Iterator[Connection]:
    """Connect to a database, for statements outside of a transaction."""
    psycopg = url.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(psycopg, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()
