"""stairoids-signals: the operator's hand on the target.

Each command imports what it needs when it runs, so that `--help` is quick.
"""

from __future__ import annotations

import click

from target_stairoids.cli.check import check
from target_stairoids.cli.dead_letters import dead_letters
from target_stairoids.cli.explain import explain
from target_stairoids.cli.ledger import ledger
from target_stairoids.cli.mapping import preview, suggest
from target_stairoids.cli.mapping_tests import test
from target_stairoids.cli.report import report

_EXAMPLES = """\b
Examples, each with the target's own config:
  stairoids-signals suggest messages.jsonl > signals.yml
  stairoids-signals preview messages.jsonl --config config.json
  stairoids-signals explain messages.jsonl --config config.json
  stairoids-signals test mapping_tests.yml --config config.json
  stairoids-signals check --config config.json
  stairoids-signals report --config config.json --format html > report.html
  stairoids-signals dead-letters list --config config.json
  stairoids-signals dead-letters replay --config config.json

\b
Exit codes: 0 done; 1 it cannot be done, is not so, or not for all, and a sentence
says why; 2 the command line is wrong; 75 `ledger baseline` left something for its
next run.

\b
`messages.jsonl` is what a tap prints: tap-x --config tap.json > messages.jsonl
"""


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="singer-stairoids")
def main() -> None:
    """See what would be sent, and settle what became of what was."""


for command in (suggest, preview, explain, test, check, report, dead_letters, ledger):
    main.add_command(command)
