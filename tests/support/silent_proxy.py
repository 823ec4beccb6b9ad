"""A TCP proxy before a database, whose connections can fall silent."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self
from urllib.parse import parse_qs, urlsplit


class SilentProxy:
    """Passes bytes on, until `fall_silent` keeps all connections open without a byte.

    Connections that are made afterwards work. With `refuse`, there are none.
    """

    def __init__(self, postgres_url: str) -> None:
        folder = parse_qs(urlsplit(postgres_url).query)["host"][0]
        self._path = f"{folder}/.s.PGSQL.5432"
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._silent: set[socket.socket] = set()
        self._open: list[socket.socket] = []
        self._refuses = False
        port = self._listener.getsockname()[1]
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._listener.close()
        for connection in self._open:
            connection.close()

    def fall_silent(self) -> None:
        self._silent.update(self._open)

    def refuse(self, *, refuses: bool) -> None:
        self._refuses = refuses
        if refuses:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._refuses:
                client.close()
                continue
            server = socket.socket(socket.AF_UNIX)
            server.connect(self._path)
            self._open += [client, server]
            for pair in ((client, server), (server, client)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if source not in self._silent:
                    sink.sendall(data)
            if source not in self._silent:
                sink.shutdown(socket.SHUT_RDWR)
