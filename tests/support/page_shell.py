"""Run a document's commands one after the other in one bash.

So `cd`, `export`, `&` and `kill %1` work for later lines as they do for a reader.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from typing import TYPE_CHECKING, Self

from tests.support.documents import expected_code
from tests.support.forks import processes_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Reads lines from descriptor 3, and writes the exit code of each to 4.
_LOOP = """
set -m -o pipefail
while IFS= read -r line <&3; do
    eval "$line" 3<&- 4>&-
    echo "$?" >&4
done
"""


class PageShell:
    """Run lines. Their background jobs end with the shell.

    Args:
        folder: The first working directory.
    """

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env

    def __enter__(self) -> Self:
        lines, self._lines = os.pipe()
        self._codes, codes = os.pipe()
        self._output = tempfile.TemporaryFile()
        descriptors = f"exec 3<&{lines} 4>&{codes}\n"
        self._bash = subprocess.Popen(
            ["bash", "-c", descriptors + _LOOP],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            cwd=self._folder,
            env=self._env,
            pass_fds=[lines, codes],
            start_new_session=True,
        )
        os.close(lines)
        os.close(codes)
        return self

    def run(self, line: str) -> str:
        """Run a line and return its output.

        Raises:
            AssertionError: Its exit code was not the expected one.
        """
        began = os.fstat(self._output.fileno()).st_size
        os.write(self._lines, f"{line}\n".encode())
        code = os.read(self._codes, 16).decode().strip()
        size = os.fstat(self._output.fileno()).st_size - began
        printed = os.pread(self._output.fileno(), size, began).decode()
        expected = str(expected_code(line, printed))
        assert code == expected, f"{line}: {code or 'no shell'}\n{printed[-4000:]}"
        return printed

    def __exit__(self, *_exc_info: object) -> None:
        os.close(self._lines)
        self._end_session()
        self._bash.wait(timeout=20)
        os.close(self._codes)
        self._output.close()

    def _end_session(self) -> None:
        """End the background jobs. Each job is a process group."""
        for process in processes_of(self._bash.pid):
            if process != self._bash.pid:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)


def a_free_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def is_served(port: str) -> bool:
    """Return whether a port has a listener."""
    try:
        socket.create_connection(("127.0.0.1", int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def without_meltano(env: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without settings of Meltano and of its plugins."""
    names = ("MELTANO_", "TAP_", "TARGET_", "STAIROIDS_", "VIRTUAL_")
    kept = {name: value for name, value in env.items() if not name.startswith(names)}
    return kept | {
        "MELTANO_SEND_ANONYMOUS_USAGE_STATS": "false",
        "UV_PYTHON_DOWNLOADS": "never",
    }
