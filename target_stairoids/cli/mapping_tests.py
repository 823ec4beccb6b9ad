"""`stairoids-signals test`: does the mapping still say what it is to say?"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, TextIO

import click

from target_stairoids.cli.options import config_option, one_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("tests", type=click.File("r"))
@config_option()
@one_sentence
def test(config_inputs: Sequence[str], tests: TextIO) -> None:
    """Run a file of mapping tests, without key and network.

    TESTS is a YAML file such as

    \b
    tests:
    - name: a paid trial is told
      stream: public-trials
      record: {trial_id: 1, email: ada@acme.com, plan: pro}
      signals:
      - {type: trial, source: billing, contact: {email: ada@acme.com},
         properties: {trial_id: 1, plan: pro}}
    - name: a free one is not
      stream: public-trials
      record: {trial_id: 2, email: ada@acme.com, plan: free}
      outcome: filtered

    \b
    Example:
      stairoids-signals test mapping_tests.yml --config config.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.dry_run.mapping_tests import cases_in, failure_of
    from target_stairoids.dry_run.runner import run_dry

    run = functools.partial(run_dry, config_inputs, ledger_url="sqlite://")
    failed = 0
    cases = cases_in(tests)
    for case in cases:
        failure = failure_of(case, run)
        if failure is None:
            click.echo(f"PASSED  {case.name}")
            continue
        failed += 1
        click.secho(f"FAILED  {case.name}", fg="red")
        click.echo("".join(f"        {line}\n" for line in failure.split("\n")))
    click.echo(f"{len(cases) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)
