"""Meltano and the programs of the project for the commands of pages."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support import forks
from tests.support.page_shell import without_meltano
from tests.support.singer_io import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRINT_PYTHON = "import sys; print(sys.executable)"

#: As `uv tool run` starts it.
MELTANO = """
import meltano.cli, os, sys
os.environ["PATH"] = f"{sys.prefix}/bin:{os.environ['PATH']}"
sys.exit(meltano.cli.main())
"""


@pytest.fixture(scope="session")
def meltano(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a program that is Meltano, as forks of one process."""
    tool = [str(BIN / "uv"), "tool", "run", "--python", sys.executable]
    python = subprocess.run(
        [*tool, "--from", "meltano>=4.4,<5", "python", "-c", PRINT_PYTHON],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
    ).stdout.strip()
    program = tmp_path_factory.mktemp("meltano") / "meltano"
    with forks.forking(
        python, "import alembic.context, meltano.cli", without_meltano(os.environ)
    ) as running:
        running.shim(program, MELTANO)
        yield program


@pytest.fixture(scope="session")
def programs() -> str:
    """Return a PATH whose programs of this project are quick forks of one process."""
    return f"{forks.programs()}:{BIN}:{os.environ['PATH']}"
