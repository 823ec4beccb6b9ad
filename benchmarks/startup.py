"""Start-up: time and memory of each command for --version, --help and --about."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from benchmarks.figures import Figure
from benchmarks.processes import BIN, mebibytes, seconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.figures import Scope

#: Options of each command, and how many seconds they may take.
COMMANDS = {
    "target-stairoids": {"--version": 0.5, "--help": 0.5, "--about": 0.8},
    "tap-stairoids-webhooks": {"--version": 0.5, "--help": 0.5, "--about": 0.8},
    "stairoids-signals": {"--version": 0.5, "--help": 0.5},
    "stairoids-webhooks": {"--version": 0.5, "--help": 0.5},
    "stairoids-sandbox": {"--version": 0.5, "--help": 0.5},
}


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield seconds for each command and option, and memory for the first."""
    for command, options in COMMANDS.items():
        for option, goal in options.items():
            line = [str(BIN / command), option]
            yield Figure(
                path=f"start-up: `{command} {option}`",
                value=statistics.median(seconds(line) for _ in range(scope.rounds + 2)),
                unit="s",
                at_most=goal,
            )
            if option == "--version":
                yield Figure(
                    path=f"memory: `{command} {option}`",
                    value=mebibytes(line),
                    unit="MiB",
                )
    bare = [str(BIN / "python"), "-c", "import singer_sdk"]
    yield Figure(
        path="start-up: `import singer_sdk` alone",
        value=statistics.median(seconds(bare) for _ in range(5)),
        unit="s",
    )
