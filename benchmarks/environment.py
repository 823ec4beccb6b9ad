"""Creates environments for baselines whose dependencies conflict with ours.

An environment is installed once from a file of pinned requirements, in a folder that
git ignores. After that it works without a network.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from benchmarks.processes import BIN

HOME = Path(__file__).parent.parent / ".cache/benchmarks"


class NotInstalledError(Exception):
    """A baseline cannot be installed here. Its row shows no ratio."""


def python_with(requirements: Path, home: Path = HOME) -> Path:
    """Return the Python of an environment that has exactly these requirements.

    Raises:
        NotInstalledError: There is no network, no uv, or no such version for this
            Python. The message has the output of uv.
    """
    folder = home / requirements.stem
    python = folder / "bin/python"
    _uv("venv", "--allow-existing", "--python", sys.executable, str(folder))
    # Without compiled files the first run would be slower than the others.
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
