"""Click options made from the settings of the receiver."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
import msgspec

from tap_stairoids_webhooks.environment import PREFIX, ReceiverSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., Any]


def receiver_options(*names: str) -> Callable[[Command], Command]:
    """Return a decorator that adds options for settings of the receiver.

    Args:
        names: Names of settings. Without any: every setting.
    """
    components = msgspec.json.schema_components([ReceiverSettings])[1]
    settings = components[ReceiverSettings.__name__]["properties"]

    def decorate(command: Command) -> Command:
        for name in reversed(names or list(settings)):
            command = _option(name, settings[name])(command)
        return command

    return decorate


def _option(name: str, spec: dict[str, Any]) -> Callable[[Command], Command]:
    default, types = spec["default"], [spec, *spec.get("anyOf", [])]
    kind: click.ParamType[Any] | None = None
    for type_ in types:
        if "enum" in type_:
            kind = click.Choice(type_["enum"], case_sensitive=False)
        elif type_.get("type") == "integer":
            kind = click.IntRange(type_.get("minimum"), type_.get("maximum"))
    return click.option(
        f"--{name.replace('_', '-')}",
        default=default,
        show_default="none" if default is None else True,
        type=kind,
        envvar=PREFIX + name.upper(),
        show_envvar=True,
        help=spec["description"],
    )
