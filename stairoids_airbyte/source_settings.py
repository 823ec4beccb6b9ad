"""The settings of the source: those of the tap, with a few changes."""

from __future__ import annotations

from collections.abc import Mapping

from stairoids_airbyte.exceptions import WrongConfigError
from stairoids_airbyte.protocol import Json, Message
from stairoids_airbyte.specification import problem_of_place, specification
from stairoids_common.config import understood
from stairoids_common.config_errors import one_a_line
from stairoids_common.settings import SECRET, config_schema_of
from tap_stairoids_webhooks.config import TapConfig, problems_in
from target_stairoids.settings import Settings


def _schema() -> dict[str, Json]:
    """Return the schema of the tap's settings, and of the ledger to read as well."""
    schema = config_schema_of(TapConfig)
    ledger_url = config_schema_of(Settings)["properties"]["ledger_url"]
    return {
        **schema,
        "properties": {
            **schema["properties"],
            "ledger_url": {name: ledger_url[name] for name in ("type", "title")}
            | SECRET
            | {
                "description": "The ledger that `target-stairoids` fills: PostgreSQL, "
                "or SQLite by an absolute path. With it the source has the streams "
                "`signals`, `runs` and `dead_letters` as well."
            },
        },
    }


def spec() -> Message:
    """Return the specification of the source."""
    return specification(
        _schema(),
        required=["store_url"],
        changes={
            "store_url": {
                "default": None,
                "examples": [
                    "postgresql://user:password@host/webhooks",
                    "sqlite:////local/stairoids/webhooks.db",
                ],
                "description": "The store that `stairoids-webhooks serve` fills: "
                "PostgreSQL, or SQLite on a volume that receiver and source share.",
            }
        },
    )


def checked_config(config: Mapping[str, Json]) -> dict[str, Json]:
    """Return a config with the right types, or refuse it without its values."""
    schema = _schema()
    found = understood(config, schema)
    problems = problems_in(found, schema)
    if "store_url" not in found:
        problems.append("`store_url` is required")
    for name in ("store_url", "ledger_url"):
        if not problems and name in found:
            problems += filter(None, [problem_of_place(name, found[name])])
    if problems:
        raise WrongConfigError(one_a_line(problems))
    return found
