"""`python -m benchmarks` measures each path with its baselines and prints a table."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import (
    Figure,
    Scope,
    as_markdown,
    machine,
    read,
    show,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parent.parent / "docs/concepts/performance.md"
PATHS = {
    "startup": "time and memory of each command for --version and --help",
    "mapping": "one record, from parsed to digests and a signal",
    "sync": "100,000 records: for the first time, again, and touched but unchanged",
    "sending": "15,000 signals to a sandbox that responds after 0, 5 and 50 ms",
    "receiver": "deliveries verified and stored",
    "tap": "stored events emitted",
    "quota": "real quota minutes of each plan; takes six of them",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print the table. Exit with 1 if a goal is missed."""
    listed = "\n".join(f"  {name:10}{what}" for name, what in PATHS.items())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=f"Measure; paths are:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", nargs="*", metavar="PATH", help="all by default")
    parser.add_argument("--rounds", type=int, default=3, help="3 by default")
    parser.add_argument(
        "--share", type=float, default=1.0, help="of the usual numbers, such as 0.1"
    )
    parser.add_argument(
        "--keep",
        action="store_true",
        help=f"write {RESULTS.name} and docs/{PAGE.name}",
    )
    options = parser.parse_args(arguments)
    if unknown := set(options.paths) - set(PATHS):
        parser.error(f"there is no path {', '.join(sorted(unknown))}")
    scope = Scope(rounds=options.rounds, share=options.share)
    figures: list[Figure] = []
    for name in options.paths or PATHS:
        print(f"measuring {name}: {PATHS[name]}", flush=True)
        found = list(importlib.import_module(f"benchmarks.{name}").figures(scope))
        for figure in found:
            print(f"  {figure.path}: {figure.value:,.1f} {figure.unit}", flush=True)
        figures += found
        if options.keep:
            write(RESULTS, found, scope)
            show(PAGE, read(RESULTS))
    print(f"\n{as_markdown(figures)}\nmedians of {scope.rounds} rounds, {machine()}")
    return 0 if all(figure.is_met for figure in figures) else 1


if __name__ == "__main__":
    raise SystemExit(main())
