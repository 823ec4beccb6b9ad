"""Ages, as `--older-than` takes them: the same way in every command."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from stairoids_common.text import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Any]

_AGE = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}


def age_option(
    *, about: str, least: timedelta = timedelta(), required: bool = False
) -> Callable[[Command], Command]:
    """Return the option `--older-than`: an age, or the time since then.

    Args:
        about: What it does, before it is said what it takes.
        least: A shorter one is refused.
    """

    def read(
        _context: click.Context, _option: click.Parameter, text: str | None
    ) -> timedelta | None:
        return None if text is None else _age_from(text, datetime.now(UTC), least)

    return click.option(
        "--older-than",
        callback=read,
        required=required,
        metavar="AGE|TIME",
        help=f"{about} 90d, 12h or 30m, or a time such as 2026-01-31.",
    )


def _age_from(text: str, now: datetime, least: timedelta) -> timedelta:
    try:
        if match := _AGE.fullmatch(text):
            age = timedelta(**{_UNITS[match[2]]: int(match[1])})
        else:
            moment = datetime.fromisoformat(text)
            age = now - (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except (ValueError, OverflowError):
        msg = "not an age (90d, 12h, 30m) or a time (2026-01-31)."
        raise click.BadParameter(msg) from None
    if age < timedelta():
        msg = "a time that is still to come."
        raise click.BadParameter(msg)
    if age < least:
        msg = f"less than {counted(least.days, 'day')}."
        raise click.BadParameter(msg)
    return age
