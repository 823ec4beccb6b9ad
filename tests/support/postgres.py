"""A PostgreSQL server."""

from __future__ import annotations

import logging
import shutil
import socket
import subprocess
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import create_engine, text

from tests.support.page_shell import a_free_port
from tests.support.singer_io import wait_until

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


@contextmanager
def a_pooler(server: str, mode: str) -> Iterator[str]:
    """Start PgBouncer before a server, and yield the URL of a database behind it."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("no PgBouncer here: apt-get install pgbouncer")
    folder = Path(parse_qs(urlsplit(server).query)["host"][0])
    # Not in the folder of pytest, which closes it to the user of the server.
    home, port = Path(tempfile.mkdtemp(prefix="pgbouncer-")), a_free_port()
    home.chmod(0o755)
    config = home / "pgbouncer.ini"
    config.write_text(
        f"[databases]\n* = host={folder} user=postgres\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n"
        f"auth_type = any\npool_mode = {mode}\nuser = {folder.owner()}\n"
    )
    process = subprocess.Popen([program, config], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _is_open(port))
        yield f"postgresql://postgres@127.0.0.1:{port}{urlsplit(server).path}"
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(home)


def _is_open(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
