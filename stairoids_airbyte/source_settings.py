"""The source's settings: the tap's own, but for what a container changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.specification import specification
from tap_stairoids_webhooks.config import config_schema, problems_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_airbyte.protocol import Message

Json = Any  # what JSON can hold; narrowed where it is read


def spec() -> Message:
    """Return what the source is to be told."""
    return specification(
        config_schema(),
        required=["store_url"],
        instead={
            "store_url": {
                "default": None,
                "secret": True,
                "examples": [
                    "postgresql://user:password@host/webhooks",
                    "sqlite:////local/stairoids/webhooks.db",
                ],
                "description": "The store that `stairoids-webhooks serve` fills: "
                "PostgreSQL, or SQLite on a volume that receiver and source share.",
            },
        },
    )


def check_config(config: Mapping[str, Json]) -> None:
    """Make sure that a config can be used.

    Raises:
        WrongConfigError: A setting is wrong; no value is repeated.
    """
    problems = problems_in(config)
    if "store_url" not in config:
        problems.append("store_url is required")
    if problems:
        raise WrongConfigError("; ".join(problems))
