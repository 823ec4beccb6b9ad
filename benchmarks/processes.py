"""Processes: commands as a user starts them, timed from start to exit."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BIN = Path(sys.executable).parent
# As users have it: a Python that keeps what it compiled.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_UNITS_PER_MIB = 1024 * 1024 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Run:
    """What a process took: wall time, and the most memory it had at once."""

    seconds: float
    mebibytes: float


def run(command: Sequence[str], source: Path | None = None) -> Run:
    """Run a command to its end, its input a file or nothing.

    Raises:
        RuntimeError: It failed; what it said last is told.
    """
    stdin = os.open(source or os.devnull, os.O_RDONLY)
    with tempfile.TemporaryFile() as said:
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=_ENVIRONMENT,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        os.close(stdin)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(said.read()[-2000:].decode(errors="replace"))
    return Run(seconds, usage.ru_maxrss / _UNITS_PER_MIB)


@contextmanager
def serving(command: Sequence[str], **env: str) -> Iterator[str]:
    """Run a server for as long as the block lasts; yields its first line."""
    with subprocess.Popen(
        command,
        env=_ENVIRONMENT | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline()
        finally:
            process.terminate()
            process.communicate(timeout=30)
