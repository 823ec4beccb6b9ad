"""Tests of the programs that are forks of one process."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.forks import Forked, forking, processes_of
from tests.support.paths import ROOT
from tests.support.singer_io import wait_until

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


@pytest.mark.slow
def test_process_that_forks_ends_with_tests_that_are_killed() -> None:
    tests = (
        "import os, sys, time; from tests.support import forks\n"
        "with forks.forking(sys.executable, 'pass'):\n"
        "    words = ['ps', '-o', 'pid=', '--ppid', str(os.getpid())]\n"
        "    found = forks.subprocess.run(words, capture_output=True, text=True)\n"
        "    print(found.stdout.split()[0], flush=True)\n"
        "    time.sleep(300)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", tests], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        server = int(process.stdout.readline())
        assert processes_of(server)
        process.kill()

    wait_until(lambda: not processes_of(server))
