"""`stairoids-signals suggest` and `test`: write a mapping and test it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TextIO

import click

from stairoids_common.cli import TEXT_FILE, format_option
from stairoids_common.text import one_line, visible
from target_stairoids.cli.options import config_option, messages_argument
from target_stairoids.exceptions import MessageError


@click.command()
@messages_argument
@format_option("yaml", "json", help="YAML with the reasons, or JSON for a config file.")
@config_option(required=False)
def suggest(config_inputs: Sequence[str], messages: TextIO, output_format: str) -> None:
    """Print the inferred mapping, as a start for your own.

    MESSAGES is a file with the output of a tap. The default is stdin. A config is
    only needed for its `stream_maps`. The command ignores the setting `signals`.

    \b
    Examples:
      stairoids-signals suggest messages.jsonl > signals.yml
      stairoids-signals suggest messages.jsonl --format json
    """
    import yaml

    from target_stairoids.dry_run.preview import NO_STREAM, Preview
    from target_stairoids.dry_run.runner import NO_LEDGER, run_dry
    from target_stairoids.dry_run.suggest import as_yaml

    preview = Preview(samples=0)
    run_dry(config_inputs, messages, preview, signals=(), ledger_url=NO_LEDGER)
    if not preview.streams:
        raise MessageError(NO_STREAM)
    text = as_yaml(preview)
    if output_format == "json":
        whole = json.dumps(yaml.safe_load(text), indent=2, ensure_ascii=False)
        text = visible(whole) + "\n"
    click.echo(text, nl=False)


@click.command()
@click.argument("tests", type=TEXT_FILE)
@config_option()
def test(config_inputs: Sequence[str], tests: TextIO) -> None:
    """Run a file of mapping tests, without key and network.

    TESTS is a YAML file such as

    \b
    tests:
    - name: a paid trial is sent
      stream: public-trials
      record: {trial_id: 1, email: ada@acme.com, plan: pro}
      signals:
      - {type: trial, source: billing, contact: {email: ada@acme.com},
         properties: {trial_id: 1, plan: pro}}
    - name: a free trial is filtered
      stream: public-trials
      record: {trial_id: 2, email: ada@acme.com, plan: free}
      outcome: filtered

    \b
    Example:
      stairoids-signals test mapping_tests.yml --config config.json
    """
    from target_stairoids.dry_run.mapping_tests import failure_of, read_tests
    from target_stairoids.target import target_from

    target = target_from(config_inputs, may_send=False, api_key="not used")
    target.settings()  # a wrong one is one error, and not one of each test
    failed, found = 0, read_tests(tests)
    for test in found:
        failure = failure_of(target.config, test)
        if failure is None:
            click.echo(f"PASSED  {one_line(test.name)}")
            continue
        failed += 1
        click.secho(f"FAILED  {one_line(test.name)}", fg="red")
        click.echo(
            "".join(f"        {line}\n" for line in visible(failure).split("\n"))
        )
    click.echo(f"{len(found) - failed} passed, {failed} failed")
    if failed:
        raise click.exceptions.Exit(1)
