"""Click options made from the settings of the receiver."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import click

from stairoids_common.cli import EnvironmentOption
from stairoids_common.config_errors import WrongConfigError
from stairoids_common.environment import check_variables
from stairoids_common.error_ids import with_id
from stairoids_common.settings import struct_schema
from tap_stairoids_webhooks.environment import PREFIX, SECRET_SETTINGS, ReceiverSettings

Command = Callable[..., Any]


def receiver_options(*names: str) -> Callable[[Command], Command]:
    """Return a decorator that adds options for some settings, by default all."""
    settings = struct_schema(ReceiverSettings)["properties"]
    types = get_type_hints(ReceiverSettings)

    def decorate(command: Command) -> Command:
        for name in reversed(names or list(settings)):
            command = _option(name, settings[name], types[name])(command)
        return _with_checked_variables(command)

    return decorate


def _with_checked_variables(command: Command) -> Command:
    """Refuse a variable of the environment that is nearly that of a setting."""

    @functools.wraps(command)
    def checked(*args: Any, **options: Any) -> None:
        names = (*ReceiverSettings.__struct_fields__, *SECRET_SETTINGS)
        try:
            check_variables(PREFIX, names, warns=True)
        except WrongConfigError as error:
            raise click.ClickException(with_id(str(error))) from None
        command(*args, **options)

    return checked


def _option(
    name: str, spec: dict[str, Any], type_: object
) -> Callable[[Command], Command]:
    default, kind = spec.get("default"), _kind_of(spec, type_)
    return click.option(
        f"--{name.replace('_', '-')}",
        default=default,
        is_flag=default is False,
        show_default="none" if default is None else default is not False,
        type=kind,
        cls=EnvironmentOption,
        envvar=PREFIX + name.upper(),
        show_envvar=True,
        help=spec["description"],
    )


def _kind_of(spec: dict[str, Any], type_: object) -> click.ParamType[Any] | None:
    if "enum" in spec:  # in the order of the declaration, unlike the schema
        return click.Choice(get_args(type_), case_sensitive=False)
    if spec["type"] == "integer":
        return click.IntRange(spec.get("minimum"), spec.get("maximum"))
    return None
