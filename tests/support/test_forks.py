"""Tests of the programs that are forks of one process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.forks import Forked, forking

if TYPE_CHECKING:
    from pathlib import Path


def test_program_fails_at_once_if_the_process_that_forks_has_ended(
    tmp_path: Path,
) -> None:
    """A module with a wrong import must not let each test wait for its timeout."""
    program = tmp_path / "program"
    with forking(sys.executable, "raise SystemExit") as forks:
        forks.shim(program, "pass")

        done = subprocess.run([program], capture_output=True, check=False, timeout=30)
        with pytest.raises(ChildProcessError):
            Forked([program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    assert done.returncode != 0
