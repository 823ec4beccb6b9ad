"""`stairoids-signals check`: is all set up, without harm to anybody?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, TextIO

import click

from stairoids_common.text import counted
from target_stairoids.cli.options import config_option, one_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.option(
    "--catalog",
    type=click.File("r"),
    metavar="FILE",
    help="Check the mapping against a tap's catalog, or the SCHEMA messages it prints.",
)
@config_option()
@one_sentence
def check(config_inputs: Sequence[str], catalog: TextIO | None) -> None:
    """Check config, mapping, ledger, API and key, without harm.

    No signal is sent. Two requests are made: one without the key, to see that
    something responses at `api_url`, and one that reads a signal, to see whether
    Stairoids knows the key. Whether the key may also send shows at the first signal.

    \b
    Examples:
      stairoids-signals check --config config.json
      stairoids-signals check --config config.json --catalog catalog.json
    """  # noqa: D301 - \b is click's mark for text that is not re-wrapped
    from target_stairoids.sending.readiness import look_at_key, reach, writable_ledger
    from target_stairoids.target import settings_from

    settings = settings_from(config_inputs)
    click.echo("config   right")
    if catalog is not None:
        _check_mapping(config_inputs, catalog)
    click.echo(f"ledger   {writable_ledger(settings)} can be written")
    reach(settings)
    click.echo(f"api      {settings.api_url} responses")
    click.echo(f"key      {look_at_key(settings)}")


def _check_mapping(config_inputs: Sequence[str], catalog: TextIO) -> None:
    from target_stairoids.dry_run.catalog import schema_messages
    from target_stairoids.dry_run.preview import Preview
    from target_stairoids.dry_run.runner import run_dry

    messages = schema_messages(catalog)
    seen = Preview(samples=0)
    run_dry(config_inputs, [json.dumps(message) for message in messages], seen)
    click.echo(f"mapping  fits {counted(len(messages), 'stream')}")
    for name, stream in seen.streams.items():
        for compiled_mapping in stream.maps:
            whom = [f for f in ("account.domain", "contact.email")
                    if f in compiled_mapping.origins]  # fmt: skip
            told = (
                "left out" if compiled_mapping.is_left_out else f"by {', '.join(whom)}"
            )
            click.echo(f"         {name} -> {compiled_mapping.name}: {told}")
