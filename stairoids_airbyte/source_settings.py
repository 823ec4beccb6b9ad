"""The settings of the source: those of the tap, with a few changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.specification import problem_of_place, specification
from stairoids_common.config import understood
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


def checked_config(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return a config with the right types and without settings that are null.

    Raises:
        WrongConfigError: A setting is wrong. The message has no values.
    """
    found = understood(config, config_schema())
    problems = problems_in(found)
    if "store_url" not in found:
        problems.append("`store_url` is required")
    elif not problems and (at := problem_of_place("store_url", found["store_url"])):
        problems.append(at)
    if problems:
        raise WrongConfigError("; ".join(problems))
    return found
