"""Click options, errors and tables that the commands of all packages share.

Rich is imported only when a table is printed, so that `--help` stays quick.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TYPE_CHECKING, Any

import click
import msgspec
from typing_extensions import Buffer, override

from stairoids_common.config_errors import WrongConfigError
from stairoids_common.environment import variable_or_file, warn_of_shared_variables
from stairoids_common.error_ids import fail
from stairoids_common.text import counted, one_line, visible, write_utf8
from stairoids_common.time import parse_time

if TYPE_CHECKING:
    from rich.table import Table

Command = Callable[..., Any]

CONTEXT_SETTINGS = {"help_option_names": ["-h", "--help"]}
version_option = click.version_option(package_name="singer-stairoids")

#: A text file, or stdin for `-`.
TEXT_FILE = click.File("r", encoding="utf-8-sig")

_AGE = re.compile(r"(\d+)([dhm])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_STDOUT = "stdout"
_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}
_NO_LIMIT = 1_000_000  # columns of a table that is not printed on a terminal


class _Text(click.types.StringParamType):
    """Text that is UTF-8. Other bytes of a command line are half surrogate pairs."""

    @override
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        text = super().convert(value, param, ctx)
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fail("has bytes that are not UTF-8.", param, ctx)
        return text


def _check_text_of(command: click.Command) -> None:
    """Refuse text that is not UTF-8 in a command and its subcommands."""
    for parameter in command.params:
        # The path of a config may have any bytes.
        if parameter.type is click.STRING and parameter.name != "config_inputs":
            parameter.type = _Text()
    for inner in getattr(command, "commands", {}).values():
        _check_text_of(inner)


class _Stdout(FileIO):
    """Standard output, whose errors have its name."""

    @override
    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = _STDOUT
            raise


@contextmanager
def checked_stdout() -> Iterator[None]:
    """End the program with one sentence if stdout, or a file, cannot be written."""
    if sys.stdout is sys.__stdout__ is not None:
        # If Python is unbuffered, it ignores that only a part was written.
        buffer = BufferedWriter(_Stdout(1, "w", closefd=False))
        sys.stdout = TextIOWrapper(buffer, encoding="utf-8", line_buffering=True)
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL or error.filename not in {None, _STDOUT}:
            raise
        name = error.filename or "A file"
        discard_stdout()
        fail(f"{name} cannot be written: {error.strerror}. Run again.")


def discard_stdout() -> None:
    """Discard the text that stdout has not taken yet.

    Python flushes stdout at exit. If that failed, the exit code would be 120.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


class Program(click.Group):
    """A program in UTF-8. Expected errors, and a full disk, are one line on stderr.

    The exit code is that of the error, else 1.
    """

    expected_errors: tuple[type[Exception], ...] = ()

    @override
    def invoke(self, ctx: click.Context) -> Any:
        write_utf8()
        warn_of_shared_variables()
        try:
            return super().invoke(ctx)
        except self.expected_errors as error:
            fail(str(error), getattr(error, "exit_code", 1))

    @override
    def main(self, *args: Any, **options: Any) -> Any:
        _check_text_of(self)
        with checked_stdout():
            return super().main(*args, **options)


class EnvironmentOption(click.Option):
    """An option whose variable is read as a setting, also from `VARIABLE_FILE`."""

    @override
    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        if not isinstance(self.envvar, str):
            return None
        try:
            return variable_or_file(self.envvar)
        except WrongConfigError as error:
            fail(str(error))


def format_option(
    *choices: str,
    help: str = "A table for people, or JSON.",  # noqa: A002 - click's name
) -> Callable[[Command], Command]:
    """Return the option `--format`, passed as `output_format`, by default the first."""
    known = choices or ("table", "json")
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(known),
        default=known[0],
        show_default=True,
        help=help,
    )


def past_time_option(
    name: str,
    *,
    help: str,  # noqa: A002 - click's name
    min_age: timedelta = timedelta(),
    required: bool = False,
) -> Callable[[Command], Command]:
    """Return an option such as `--older-than`, passed as a `datetime` in UTC.

    The option refuses a time younger than `min_age`. Examples are added to `help`.
    """

    def convert(
        _context: click.Context, _option: click.Parameter, text: str | None
    ) -> datetime | None:
        if text is None:
            return None
        now = datetime.now(UTC)
        try:
            match = _AGE.fullmatch(text)
            age = timedelta(**{_UNITS[match[2]]: int(match[1])}) if match else None
            time = parse_time(text) if age is None else now - age
        except (ValueError, OverflowError):
            raise click.BadParameter(
                "not an age (90d, 12h, 30m) or a time (2026-01-31)."
            ) from None
        if time > now:
            raise click.BadParameter("this time is in the future.")
        if now - time < min_age:
            raise click.BadParameter(f"less than {counted(min_age.days, 'day')}.")
        return time

    return click.option(
        name,
        callback=convert,
        required=required,
        metavar="AGE|TIME",
        help=f"{help} 90d, 12h or 30m, or a time such as 2026-01-31.",
    )


older_than_option = functools.partial(past_time_option, "--older-than")


def confirmed_removal(command: Command) -> Command:
    """Add `--dry-run` and `--yes` to a command that removes something.

    The command gets `is_confirmed`, a function. Call it with a sentence about the
    things to be removed, and remove them only if it returns True. Without a terminal
    and without `--yes` the command is refused before it begins.
    """

    @click.option(
        "--dry-run",
        is_flag=True,
        help="Count the things to be removed, and remove nothing.",
    )
    @click.option("--yes", is_flag=True, help="Do not ask. A script needs this.")
    @functools.wraps(command)
    def asking(*args: Any, dry_run: bool, yes: bool, **options: Any) -> None:
        def is_confirmed(sentence: str) -> bool:
            if dry_run:
                click.echo(f"{sentence} Nothing was removed (--dry-run).")
            elif not yes:
                click.confirm(f"{sentence} Go on?", abort=True, err=True)
            return not dry_run

        if not (dry_run or yes or sys.stdin.isatty()):
            fail("This command removes data. Add --yes, or --dry-run to look first.", 2)
        command(*args, is_confirmed=is_confirmed, **options)

    return asking


def echo_json(value: object) -> None:
    """Print JSON on stdout, with escapes for the characters that reorder a line."""
    click.echo(visible(msgspec.json.encode(value).decode()))


def print_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table on stdout.

    Cells wrap at the width of a terminal. Elsewhere each row is one line without
    colours, however long.
    """
    from rich.console import Console  # noqa: PLC0415 - slow to import

    is_terminal = sys.stdout.isatty()
    width = None if is_terminal else _NO_LIMIT
    console = Console(width=width, force_terminal=is_terminal)
    with console.capture() as printed:
        console.print(table_of(header, rows))
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def table_of(header: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """Return a table. It has titles if there is a header.

    Numbers are printed as `1,234` or `1.5` and aligned right, None as `?`.
    """
    from rich.table import Table  # noqa: PLC0415 - slow to import
    from rich.text import Text  # noqa: PLC0415 - slow to import

    table = Table(
        box=None, pad_edge=False, show_header=bool(header), header_style="bold"
    )
    for number, title in enumerate(header or [""] * len(rows[0])):
        has_numbers = any(isinstance(row[number], int | float) for row in rows)
        table.add_column(
            Text(title), justify="right" if has_numbers else "left", overflow="fold"
        )
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def _cell(value: object) -> str:
    if value is None:
        return "?"
    if isinstance(value, float):
        return f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else one_line(str(value))
