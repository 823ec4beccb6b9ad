"""Options and decorators that the commands share."""

from __future__ import annotations

import functools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any, TextIO

import click

from stairoids_common.cli import TEXT_FILE
from stairoids_common.config import NO_CONFIG, default_inputs
from stairoids_common.error_ids import WrongUsageError
from stairoids_common.text import as_code, one_line
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.people_and_companies import clean_email

_CONFIG = f"{__name__}.config"  # in click's `meta`: the config of an outer command
#: Loggers of warnings about a config and its mappings.
_ABOUT_CONFIG = (
    "stairoids_common.config",
    "stairoids_common.environment",
    "target_stairoids.sending.streams",
)


def _refuse_terminal(
    context: click.Context, _argument: click.Parameter, messages: TextIO
) -> TextIO:
    if messages.isatty():
        raise WrongUsageError(
            "There are no messages. Name a file, or pipe the output of a tap into this "
            "command.",
            context,
        )
    return messages


messages_argument = click.argument(
    "messages", type=TEXT_FILE, default="-", callback=_refuse_terminal
)


online_option = click.option(
    "--online", is_flag=True, help="Also compare the ledger with Stairoids' signals."
)


def address_in(email: str) -> str:
    """Return an address in lower case, also one that no signal can have."""
    address = clean_email(email) or email.strip()
    if "@" not in address.strip("@"):
        raise ConfigError("--email is not an email address such as ann@example.com.")
    return address.lower()


def config_option(
    *, required: bool = True, is_of_group: bool = False
) -> Callable[..., Any]:
    """Return the option `--config`; only if it is required, it has a default.

    That of a group holds for its commands.
    """

    def find(
        context: click.Context, _option: click.Parameter, given: tuple[str, ...]
    ) -> tuple[str, ...]:
        if given or is_of_group:
            found = context.meta[_CONFIG] = given or context.meta.get(_CONFIG, ())
            return found
        found = context.meta.get(_CONFIG) or (default_inputs() if required else ())
        if required and not (found or context.resilient_parsing):
            raise WrongUsageError(NO_CONFIG, context)
        return found

    return click.option(
        "--config",
        "config_inputs",
        multiple=True,
        callback=find,
        expose_value=not is_of_group,
        metavar="FILE|ENV",
        help="The target's config: a JSON file, or ENV for environment variables. "
        f"Default: {'STAIROIDS_CONFIG, else ./config.json' if required else 'none'}.",
    )


@contextmanager
def warnings_only() -> Iterator[None]:
    """Log warnings only. One about the config comes once, also if it is read twice."""
    for name in ("target-stairoids", "target_stairoids"):
        logging.getLogger(name).setLevel(logging.WARNING)
    seen: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        before = len(seen)
        seen.add(record.getMessage())
        return len(seen) > before

    with ExitStack() as filters:
        for logger in map(logging.getLogger, _ABOUT_CONFIG):
            logger.addFilter(is_new)
            filters.callback(logger.removeFilter, is_new)
        yield


def log_the_run() -> None:
    """Log the summary of a run on stderr, for commands that are a run."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name != "singer_sdk.metrics")
    logging.basicConfig(format="%(message)s", handlers=[handler])
    logging.getLogger("target_stairoids").setLevel(logging.INFO)


def with_ledger(command: Callable[..., None]) -> Callable[..., None]:
    """Pass the ledger of `--config` to a command, and the settings as click's `obj`."""

    @config_option()
    @functools.wraps(command)
    def opened(config_inputs: Sequence[str], **options: Any) -> None:
        from target_stairoids.ledger import queries
        from target_stairoids.ledger.ledger import Ledger
        from target_stairoids.target import settings_from

        settings = settings_from(config_inputs)
        click.get_current_context().obj = settings
        with Ledger.open(settings.ledger_url, settings.scope) as ledger:
            if (known := queries.scopes(ledger)) and ledger.scope not in known:
                warning = (
                    f"The ledger has nothing of {as_code(ledger.scope)}. It has "
                    f"signals of {' and '.join(map(as_code, known))}. Compare "
                    "`api_url` and `namespace` with the config of the runs."
                )
                click.echo(one_line(warning), err=True)
            command(ledger, **options)

    return opened  # type: ignore[no-any-return]  # click's own types are loose


def key_text(key: Mapping[str, Any]) -> str:
    """Return a record's key as `trial_id=3, region=eu`, for one line."""
    parts = []
    for name, value in key.items():
        is_text = isinstance(value, str | Decimal)
        parts.append(f"{name}={value if is_text else json.dumps(value, default=str)}")
    return ", ".join(parts)
