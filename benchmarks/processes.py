"""Runs commands as a user does, and measures their time and memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BIN = Path(sys.executable).parent
# Users have compiled files.
_ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
_UNITS_PER_MIB = 1024 * 1024 if sys.platform == "darwin" else 1024
# A process begins with as much as its parent ever had, so it needs a small parent.
_PARENT = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def seconds(command: Sequence[str], source: Path | None = None) -> float:
    """Run a command and return its wall time.

    Args:
        command: The command.
        source: The file for stdin. Without it stdin is empty.

    Raises:
        RuntimeError: It failed. The message has its last output.
    """
    began = time.perf_counter()
    _run(command, source, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def mebibytes(command: Sequence[str], source: Path | None = None) -> float:
    """Run a command and return its peak memory.

    Args:
        command: The command.
        source: The file for stdin. Without it stdin is empty.

    Raises:
        RuntimeError: It failed. The message has its last output.
    """
    parent = [sys.executable, "-c", _PARENT, *command]
    return int(_run(parent, source, stdout=subprocess.PIPE)) / _UNITS_PER_MIB


def _run(command: Sequence[str], source: Path | None, *, stdout: int) -> bytes:
    stdin = os.open(source or os.devnull, os.O_RDONLY)
    try:
        done = subprocess.run(
            command,
            env=_ENVIRONMENT,
            stdin=stdin,
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(stdin)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:].decode(errors="replace"))
    return done.stdout or b""


@contextmanager
def serving(command: Sequence[str], **env: str) -> Iterator[str]:
    """Run a server during the block. Yield its first line."""
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
