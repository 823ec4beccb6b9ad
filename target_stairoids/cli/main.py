"""`stairoids-signals`: the commands for the operator of the target.

Each command imports its modules when it runs, so that `--help` stays quick.
"""

from __future__ import annotations

from typing import Any

import click
from typing_extensions import override

from stairoids_common import cli
from stairoids_common.error_ids import fail
from stairoids_common.singer import log_safely
from target_stairoids.cli.check import check, schema
from target_stairoids.cli.compare import find, reconcile
from target_stairoids.cli.dead_letters import dead_letters
from target_stairoids.cli.ledger import ledger
from target_stairoids.cli.mapping import suggest, test
from target_stairoids.cli.options import config_option, warnings_only
from target_stairoids.cli.preview import explain, preview
from target_stairoids.cli.report import report
from target_stairoids.cli.send import send
from target_stairoids.exceptions import StairoidsError

_EXAMPLES = """\b
Before the first run:
  stairoids-signals suggest messages.jsonl > signals.yml
  stairoids-signals preview messages.jsonl --config config.json
  stairoids-signals test mapping_tests.yml --config config.json
  stairoids-signals check --config config.json
  stairoids-signals send messages.jsonl --limit 1 --config config.json

\b
After a run:
  stairoids-signals explain messages.jsonl --config config.json
  stairoids-signals report --config config.json --format html > report.html
  stairoids-signals dead-letters list --config config.json
  stairoids-signals dead-letters replay --config config.json

\b
In the ledger and at Stairoids:
  stairoids-signals find --email ann@example.com --config config.json
  stairoids-signals reconcile --days 7 --config config.json

\b
The config is the target's own. The messages are the output of a tap:
  tap-x --config tap.json > messages.jsonl

\b
Exit codes:
  0   done.
  1   failed, or failed for some records. A message explains it.
      `preview` and `check`: also if a run would hold signals back.
  2   the command line is wrong.
  75  run again. `ledger baseline` or `ledger rebuild` left records, or
      `check`, `preview` or `reconcile` could not read Stairoids, or
      the connection to the ledger broke off.
"""


class _Signals(cli.Program):
    expected_errors = (StairoidsError,)

    @override
    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UnicodeDecodeError:
            fail(
                "The input is not text in UTF-8. Save it in UTF-8. In PowerShell, "
                "write it with `| Out-File -Encoding utf8`."
            )


@click.group(cls=_Signals, epilog=_EXAMPLES, context_settings=cli.CONTEXT_SETTINGS)
@cli.version_option
@config_option(is_of_group=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Preview, check and report the signals of target-stairoids."""
    log_safely()
    context.with_resource(warnings_only())


_OF_MAPPINGS = suggest, preview, explain, test, check, schema
_OF_SIGNALS = report, send, find, reconcile, dead_letters, ledger
for command in (*_OF_MAPPINGS, *_OF_SIGNALS):
    main.add_command(command)
