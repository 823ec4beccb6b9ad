"""The command `stairoids-webhooks forward`."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from typing_extensions import override

from stairoids_common.cli import (
    confirmed_removal,
    format_option,
    past_time_option,
    print_table,
)
from stairoids_common.error_ids import WrongUsageError
from stairoids_common.text import counted
from stairoids_common.time import timestamp
from tap_stairoids_webhooks.cli.options import receiver_options
from tap_stairoids_webhooks.environment import (
    DEFAULT_FORWARDER,
    ReceiverSettings,
    forwarders_in,
)
from tap_stairoids_webhooks.exceptions import ConfigError, WebhooksError
from tap_stairoids_webhooks.log_lines import LogLine, log_to_stderr
from tap_stairoids_webhooks.posix_signals import handled_by

if TYPE_CHECKING:
    from tap_stairoids_webhooks.forwarding.forwarder import Forwarder
    from tap_stairoids_webhooks.store.store import EventStore

logger = logging.getLogger(__name__)

_STOP_SECONDS = 14.0  # after SIGTERM, in every case
_RETRY_SECONDS = 5.0  # after an unforeseen error
_RANGE = re.compile(r"(\d{1,18})(?:\.\.(\d{1,18}))?")
_URL_COMMAND = "URL"


class _ForwardGroup(click.Group):
    """Commands, and a URL in place of a command."""

    @override
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args.insert(0, _URL_COMMAND)
        return super().parse_args(ctx, args)

    @override
    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = cmd_name if cmd_name in self.commands else _URL_COMMAND
        return super().get_command(ctx, name)

    @override
    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["URL [OPTIONS] | COMMAND [OPTIONS]"]

    @override
    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        self.commands[_URL_COMMAND].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@click.group(cls=_ForwardGroup)
def forward() -> None:
    """Deliver stored events to a URL, each at least once.

    Each request has the body that Stairoids signed, with its signature and type. The
    events of an account come in order. A response other than 2xx is tried again, eight
    times in all. The pauses grow, and are at least as long as its Retry-After. Then the
    event is kept as a failure, and the next event of the account follows.

    The store remembers the events that are not delivered yet, and `prune` keeps them.
    The first start of a name begins with the oldest event, or at --since. SIGTERM ends
    the command after the requests in flight.

    \b
    Examples:
      stairoids-webhooks forward http://localhost:3000/webhook
      stairoids-webhooks forward https://crm.example.com/hook --name crm
      stairoids-webhooks forward http://localhost:3000/webhook --sequence 17..20
      stairoids-webhooks forward failures
      stairoids-webhooks forward retry 17 18
    """


def _sequences(
    _context: click.Context, _option: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    if text is None:
        return None
    match = _RANGE.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if first > last:
        raise click.BadParameter(
            "not a sequence such as 17, or a range such as 17..20."
        )
    return first, last


def _filled(
    _context: click.Context, _option: click.Parameter, given: str | tuple[str, ...]
) -> str | tuple[str, ...]:
    """Refuse empty text, such as that of a variable that is not set."""
    if not all((given,) if isinstance(given, str) else given):
        raise click.BadParameter("must not be empty.")
    return given


@forward.command(_URL_COMMAND, hidden=True)
@click.argument("url", metavar="")  # the usage has it as the command's name
@click.option(
    "--name",
    default=DEFAULT_FORWARDER,
    show_default=True,
    callback=_filled,
    help="Name of this consumer of the store. Each forwarder needs its own.",
)
@click.option(
    "--event-type",
    "types",
    multiple=True,
    callback=_filled,
    help="Only this type. Repeat it for more.",
)
@past_time_option(
    "--since",
    help="Begin with the events received then, also if they were delivered before.",
)
@click.option(
    "--sequence",
    "sequences",
    callback=_sequences,
    metavar="A..B",
    help="Deliver only these events, again, then end.",
)
@click.option(
    "--once", is_flag=True, help="End when the events stored until now are done."
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="Requests at the same time.",
)
@click.option(
    "--attempts",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="Attempts after which an event is kept as a failure.",
)
@receiver_options("allow_http", "store_url", "log_level", "log_format")
def forward_to_url(
    *,
    url: str,
    types: tuple[str, ...],
    since: datetime | None,
    log_level: str,
    log_format: str,
    allow_http: bool,
    **plan: Any,
) -> None:
    """Deliver stored events to URL."""
    log_to_stderr(level=log_level, shape=log_format)
    if plan["sequences"] is not None and since is not None:
        raise WrongUsageError("--sequence and --since exclude each other.")
    with _stopped_by_signals() as stopping:
        # Here, because SIGTERM may come during these imports.
        from tap_stairoids_webhooks.forwarding.forwarder import Forwarder
        from tap_stairoids_webhooks.forwarding.handler import Handler
        from tap_stairoids_webhooks.forwarding.plan import Plan

        selected = frozenset(types) or None
        start = None if since is None else timestamp(since)
        handler = Handler(url, allow_http=allow_http)
        _warn_of_unknown(types, plan["store_url"])
        found = Plan(types=selected, since=start, **plan)
        forwarder = Forwarder(found, handler, stopping.is_set)
        forwarder.run()
    totals = {name: forwarder.totals[name] for name in ("delivered", "failed")}
    click.echo(json.dumps(totals))
    if not (plan["once"] or plan["sequences"]):
        return
    if totals["failed"]:
        failed = counted(totals["failed"], "event")
        msg = f"{failed} failed. Run stairoids-webhooks forward failures to see why"
        raise WebhooksError(msg)
    if not forwarder.is_complete:
        raise WebhooksError("stopped before the end. Run the command again")
    if plan["sequences"] and not totals["delivered"]:
        raise WebhooksError(
            "--sequence: the store has no such event; it may be pruned, erased or of"
            " another type"
        )


def _warn_of_unknown(types: tuple[str, ...], store_url: str) -> None:
    """Log each type that no stored event has."""
    if not types:
        return
    from tap_stairoids_webhooks.reading.bookmarks import unknown_types
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open_read_only(store_url) as store:
        for event in unknown_types(store, types):
            logger.warning(LogLine(f"--event-type: no event has the type {event}"))


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Set an event at SIGTERM or SIGINT, and end the process some seconds later."""
    stopping = threading.Event()
    forced_exit = threading.Timer(_STOP_SECONDS, os._exit, [1])
    forced_exit.daemon = True

    def stop(_number: int, _frame: object) -> None:
        if not stopping.is_set():
            stopping.set()
            forced_exit.start()

    with handled_by(stop):
        try:
            yield stopping
        finally:
            forced_exit.cancel()


@contextmanager
def forwarding(
    settings: ReceiverSettings, is_stopping: Callable[[], bool]
) -> Iterator[None]:
    """Run the forwarders of `serve --forward` in threads, beside the receiver."""
    if settings.forward is None:
        yield
        return
    from tap_stairoids_webhooks.forwarding.forwarder import Forwarder
    from tap_stairoids_webhooks.forwarding.handler import Handler
    from tap_stairoids_webhooks.forwarding.plan import Plan

    threads = []
    for name, url in forwarders_in(settings.forward).items():
        plan = Plan(store_url=settings.store_url, name=name)
        handler = Handler(url, allow_http=settings.allow_http)
        forwarder = Forwarder(plan, handler, is_stopping)
        threads.append(
            threading.Thread(target=_run_beside, args=[forwarder], daemon=True)
        )
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(_STOP_SECONDS)


def _run_beside(forwarder: Forwarder) -> None:
    """Run a forwarder; a fault does not end the receiver."""
    while not forwarder.is_ended:
        try:
            forwarder.run(waits=True)
        except ConfigError as error:
            logger.error(LogLine("forwarding ended", error=str(error)))  # noqa: TRY400 -- a log line has no traceback
            return
        except Exception as error:  # noqa: BLE001 -- the events still have to be delivered
            logger.error(LogLine("forwarding failed", error=type(error).__name__))  # noqa: TRY400 -- a traceback may repeat a part of an event
            threading.Event().wait(_RETRY_SECONDS)


def _failure_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        receiver_options("store_url"),
        click.option("--name", help="Only of this forwarder. Default: of all."),
        click.argument("sequences", nargs=-1, type=click.IntRange(1, 2**63 - 1)),
    ):
        command = option(command)
    return command


@forward.command()
@_failure_options
@format_option()
def failures(
    *, sequences: tuple[int, ...], name: str | None, store_url: str, output_format: str
) -> None:
    """List the events that could not be delivered.

    \b
    Example:
      stairoids-webhooks forward failures --format json
    """
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open_read_only(store_url) as store:
        found = _failures_in(store, name, sequences)
    if output_format == "json":
        click.echo(json.dumps(found))
    elif found:
        header = ("name", "sequence", "event", "attempts", "reason", "failed at")
        keys = ("consumer", "sequence", "event", "attempts", "reason", "failed_at")
        print_table(header, [[failure[key] for key in keys] for failure in found])
    else:
        click.echo("no failures")


@forward.command()
@_failure_options
def retry(*, sequences: tuple[int, ...], name: str | None, store_url: str) -> None:
    """Deliver failures again: those of SEQUENCES, or all.

    Events that wait for their next attempt come at once too.
    A forwarder that runs delivers them within seconds, another one at its next start.
    They come after the events of their account that were delivered meanwhile.

    \b
    Example:
      stairoids-webhooks forward retry 17 18
    """
    from tap_stairoids_webhooks.store import forwards
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open(store_url) as store:
        found = _failures_in(store, name, sequences, waiting=True)
        done = forwards.retry(store, name, sequences)
    click.echo(json.dumps({"retried": done}))
    _check_found(found, sequences)


@forward.command()
@_failure_options
@confirmed_removal
def discard(
    *,
    sequences: tuple[int, ...],
    name: str | None,
    store_url: str,
    is_confirmed: Callable[[str], bool],
) -> None:
    """Give up failures: those of SEQUENCES, or all. The events stay in the store.

    \b
    Example:
      stairoids-webhooks forward discard 17 --yes
    """
    from tap_stairoids_webhooks.store import forwards
    from tap_stairoids_webhooks.store.store import EventStore

    with EventStore.open(store_url) as store:
        found = _failures_in(store, name, sequences)
        if is_confirmed(f"{counted(len(found), 'failure')} will never be delivered."):
            done = forwards.discard(store, name, sequences)
            click.echo(json.dumps({"discarded": done}))
        _check_found(found, sequences)


def _failures_in(
    store: EventStore,
    name: str | None,
    sequences: tuple[int, ...],
    *,
    waiting: bool = False,
) -> list[dict[str, Any]]:
    from tap_stairoids_webhooks.store.consumers import check_consumers
    from tap_stairoids_webhooks.store.forwards import failures_in

    check_consumers(store, [name] if name else ())
    return failures_in(store, name, sequences, waiting=waiting)


def _check_found(found: list[dict[str, Any]], sequences: tuple[int, ...]) -> None:
    """Raise `ConfigError` if one of the sequences is not among the failures."""
    if not set(sequences) <= {failure["sequence"] for failure in found}:
        msg = "some of these are no failures. Run stairoids-webhooks forward failures"
        raise ConfigError(msg)
