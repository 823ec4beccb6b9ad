"""The settings of the source: those of the tap, with a few changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.specification import specification
from tap_stairoids_webhooks.config import config_schema, problems_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from stairoids_airbyte.protocol import Json, Message


def spec() -> Message:
    """Return the specification of the source."""
    return specification(
        config_schema(),
        required=["store_url"],
        changes={
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
    """Check a config.

    Raises:
        WrongConfigError: A setting is wrong. The message has no values.
    """
    problems = problems_in(config)
    if "store_url" not in config:
        problems.append("store_url is required")
    if problems:
        raise WrongConfigError("; ".join(problems))
