"""Meltano and the programs of the project for the commands of pages."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.support.forks import forking
from tests.support.page_shell import without_meltano
from tests.support.paths import ROOT
from tests.support.singer_io import BIN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PRINT_PYTHON = "import sys; print(sys.executable)"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_ALL = f"""
import importlib, pkgutil
for name in {PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
"""


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
    with forking(
        python, "import alembic.context, meltano.cli", without_meltano(os.environ)
    ) as forks:
        forks.shim(program, MELTANO)
        yield program


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return a PATH whose programs of this project are quick forks of one process."""
    folder = tmp_path_factory.mktemp("programs")
    with forking(sys.executable, IMPORT_ALL) as forks:
        for name, place in PROJECT["project"]["scripts"].items():
            module, function = place.split(":")
            start = f"import sys; from {module} import {function} as run"
            forks.shim(folder / name, f"{start}; sys.exit(run())")
        yield f"{folder}:{BIN}:{os.environ['PATH']}"
