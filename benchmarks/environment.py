"""Environments: a Python of their own for baselines that cannot live beside ours.

Each is made of a file of pinned requirements when it is first measured, and kept in a
folder that git ignores; without a network, one that is there goes on working.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import BIN

HOME = Path(__file__).parent.parent / ".cache/benchmarks"


class NotInstalledError(Exception):
    """A baseline cannot be installed here: measure without it, and say so."""


def python_with(requirements: Path, home: Path = HOME) -> Path:
    """Return the Python of an environment that has exactly these requirements.

    Raises:
        NotInstalledError: There is no network, no uv, or no such version for this
            Python; what uv said is told.
    """
    folder = home / requirements.stem
    python = folder / "bin/python"
    _uv("venv", "--allow-existing", "--python", sys.executable, str(folder))
    # Compiled at once, or the first of its runs would be slower than the others.
    compiled = ("--compile-bytecode", str(requirements))
    _uv("pip", "sync", "--python", str(python), *compiled)
    return python


def _uv(*arguments: str) -> None:
    try:
        subprocess.run(
            [str(BIN / "uv"), *arguments, "--quiet"],
            check=True,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError as error:
        message = "there is no uv beside this Python"
        raise NotInstalledError(message) from error
    except subprocess.CalledProcessError as error:
        raise NotInstalledError(error.stderr.strip()) from error
