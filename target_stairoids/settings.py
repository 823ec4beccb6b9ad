"""Settings of the target: declared once, read once.

`config_schema` is the only place for names, types, defaults and help texts; the
README's table, `meltano.yml` and `sample_configs/` are tested against it. Everything
behind `target.py` receives `Settings` and never sees the raw config.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from target_stairoids.exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping


Json = Any  # what JSON can hold; narrowed where it is read

_TEXT_OR_OFF = {"type": ["string", "null"]}


def _text_fields(*names: str) -> dict[str, Json]:
    return {
        "type": ["object", "null"],
        "properties": dict.fromkeys(names, _TEXT_OR_OFF),
        "additionalProperties": False,
    }


_SIGNAL_ITEM = {
    "type": "object",
    "required": ["stream"],
    "additionalProperties": False,
    "properties": {
        "stream": {"type": "string", "minLength": 1},
        "name": {"type": "string", "minLength": 1},
        "type": _TEXT_OR_OFF,
        "source": {"type": "string", "minLength": 1},
        "account": _text_fields("domain", "name"),
        "contact": _text_fields("email", "first_name", "last_name"),
        "occurred_at": _TEXT_OR_OFF,
        "properties": {
            "anyOf": [
                {"const": "*"},
                {"type": "null"},
                {"type": "object"},
                {"type": "array", "items": {"type": ["string", "object"]}},
            ],
        },
        "skip": {"type": "array", "items": {"type": "string"}},
        "when": {"type": "string", "minLength": 1},
        "key": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        "send": {"enum": ["once", "on_change", "always"]},
        "ignore_changes": {"type": "array", "items": {"type": "string"}},
    },
}

_PROPERTIES: dict[str, dict[str, Json]] = {
    "api_key": {
        "type": "string",
        "title": "API key",
        "description": "Stairoids API key. Create one with the `read_write` scope: "
        "what became of an unanswered request is found out by reading.",
        "secret": True,
        "writeOnly": True,
    },
    "api_url": {
        "type": "string",
        "title": "API URL",
        "default": "https://api.stairoids.com/v1",
        "description": "Base URL of the Stairoids API. Plain http is accepted for "
        "loopback addresses only.",
    },
    "source": {
        "type": "string",
        "title": "Source",
        "minLength": 1,
        "description": "The `source` of every signal whose mapping names none. "
        "Without it the name of the Meltano extractor less `tap-`, else `singer`.",
    },
    "signals": {
        "type": "array",
        "title": "Signals",
        "items": _SIGNAL_ITEM,
        "description": "How streams become signals: a list of mappings; what a "
        "mapping leaves out, and streams no mapping names, are inferred.",
    },
    "ledger_url": {
        "type": "string",
        "title": "Ledger URL",
        "default": "sqlite:///.stairoids/ledger.db",
        "description": "Where the ledger of sent signals lives: an SQLAlchemy URL of "
        "SQLite (relative to the working directory) or PostgreSQL.",
        "secret": True,
        "writeOnly": True,
    },
    "max_in_flight": {
        "type": "integer",
        "title": "Requests in flight",
        "default": 8,
        "minimum": 1,
        "maximum": 100,
        "description": "How many requests may be waiting for their response at once.",
    },
    "requests_per_minute": {
        "type": "integer",
        "title": "Requests per minute",
        "minimum": 1,
        "description": "The pace. Without it the quota is learnt from the responses' "
        "headers, starting at 60; an response without such headers lifts the limit.",
    },
    "request_timeout_seconds": {
        "type": "integer",
        "title": "Request timeout",
        "default": 30,
        "minimum": 1,
        "description": "Seconds to wait for an response to one request.",
    },
    "dry_run": {
        "type": "boolean",
        "title": "Dry run",
        "default": False,
        "description": "Map, validate and ask the ledger, but send nothing, write "
        "nothing to the ledger and emit no STATE.",
    },
    "first_run": {
        "type": "string",
        "title": "First run",
        "enum": ["guard", "send", "baseline"],
        "default": "guard",
        "description": "What a new ledger means. `guard`: stop if Stairoids already "
        "holds signals of this source; `send`: send everything; `baseline`: remember "
        "everything as seen, send nothing.",
    },
    "report_path": {
        "type": "string",
        "title": "Report file",
        "description": "Where the run report is written as JSON.",
    },
    "on_unknown": {
        "type": "string",
        "title": "On unknown",
        "enum": ["verify", "resend", "hold"],
        "default": "verify",
        "description": "A request without an response may have been accepted. "
        "`verify`: read Stairoids' signals and send again only if it is not there; "
        "`resend`: send again (may double); `hold`: leave it to a person.",
    },
    "verify_delay_seconds": {
        "type": "integer",
        "title": "Verify delay",
        "default": 10,
        "minimum": 0,
        "description": "Seconds between a request without an response and the look "
        "whether its signal arrived.",
    },
    "outage_seconds": {
        "type": "integer",
        "title": "Outage",
        "default": 900,
        "minimum": 0,
        "description": "Seconds in which requests failed and nothing was accepted, "
        "after which the run ends incomplete (exit code 75).",
    },
    "on_incomplete": {
        "type": "string",
        "title": "On incomplete",
        "enum": ["fail", "succeed"],
        "default": "fail",
        "description": "How a run ends that had to leave signals for the next one: "
        "exit code 75, or 0 after reading the input to its end without further STATE.",
    },
    "fail_on_dead_letters": {
        "type": "boolean",
        "title": "Fail on dead letters",
        "default": False,
        "description": "End with exit code 1 if a record became a dead letter, after "
        "everything is settled.",
    },
    "requests_per_day": {
        "type": "integer",
        "title": "Requests per day",
        "minimum": 1,
        "description": "Make at most so many requests a day (UTC), counted in the "
        "ledger over all runs; the rest stays pending (exit code 75).",
    },
    "max_signals_per_run": {
        "type": "integer",
        "title": "Signals per run",
        "minimum": 1,
        "description": "Send at most so many signals in one run; the rest stays "
        "pending for the next (exit code 75).",
    },
    "max_run_minutes": {
        "type": "integer",
        "title": "Run minutes",
        "minimum": 1,
        "description": "Send for at most so long; the rest stays pending for the next "
        "run (exit code 75).",
    },
    "max_event_age_days": {
        "type": "integer",
        "title": "Event age",
        "minimum": 0,
        "description": "Do not send signals whose `occurred_at` is older; they count "
        "as seen (`too_old`).",
    },
    "allow_surge": {
        "type": "boolean",
        "title": "Allow surge",
        "default": False,
        "description": "Without it a run stops (exit code 75) when over 1,000 and over "
        "20 % of a known stream's entities have changed: mostly it is not the world "
        "that changed, but a column. Nor does a mapping under a new name then take the "
        "place of the one that a stream was sent by.",
    },
    "suppress": {
        "type": "array",
        "title": "Suppress",
        "items": {"type": "string"},
        "description": "Who never gets a signal: domains (with their subdomains), "
        "e-mail addresses, or patterns with `*`.",
    },
    "suppress_path": {
        "type": "string",
        "title": "Suppression file",
        "description": "A file with more of `suppress`, one a line; `#` starts a "
        "comment.",
    },
    "keep_records": {
        "type": "boolean",
        "title": "Keep records",
        "default": True,
        "description": "Whether dead letters keep the tap's record. Without it they "
        "cannot be exported and sent again.",
    },
}


def config_schema() -> dict[str, Json]:
    """Return the config's JSON Schema, a fresh one for every caller.

    The SDK writes its built-in settings into the schema it is given.
    """
    return {
        "type": "object",
        "required": ["api_key"],
        "additionalProperties": False,
        "properties": {name: dict(spec) for name, spec in _PROPERTIES.items()},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated config, with the types the code works in.

    Attributes:
        scope: Origin of `api_url`: what is settled there says nothing elsewhere.
        source: The `source` of signals whose mapping names none.
        is_source_given: Whether the user set it, so that nothing else decides.
        requests_per_minute: The pace the user set, or None to learn it.
    """

    api_key: str = field(repr=False)
    api_url: str
    scope: str
    source: str
    is_source_given: bool
    signals: tuple[Mapping[str, Json], ...]
    ledger_url: str = field(repr=False)
    max_in_flight: int
    requests_per_minute: int | None
    request_timeout_seconds: int
    dry_run: bool
    first_run: str
    report_path: Path | None
    on_unknown: str
    verify_delay_seconds: int
    outage_seconds: int
    on_incomplete: str
    fail_on_dead_letters: bool
    requests_per_day: int | None
    max_signals_per_run: int | None
    max_run_minutes: int | None
    max_event_age_days: int | None
    allow_surge: bool
    suppress: tuple[str, ...] = field(repr=False)
    suppress_path: Path | None
    keep_records: bool

    @classmethod
    def from_config(cls, config: Mapping[str, Json]) -> Self:
        """Read a config that `config_errors` found nothing wrong with.

        Raises:
            ConfigError: `api_url` or `api_key` cannot be used; the message says why.
        """
        given = {
            name: config.get(name, spec.get("default"))
            for name, spec in _PROPERTIES.items()
        }
        _check_masked(given)
        given["scope"] = _origin_of(given["api_url"])
        given["api_url"] = given["api_url"].strip().rstrip("/")
        given["is_source_given"] = bool(given["source"])
        given["source"] = given["source"] or _default_source()
        given["signals"] = tuple(given["signals"] or ())
        given["suppress"] = tuple(given["suppress"] or ())
        for name in ("report_path", "suppress_path"):
            given[name] = Path(given[name]) if given[name] else None
        _check_key(given["api_key"])
        return cls(**given)


def _default_source() -> str:
    extractor = os.environ.get("MELTANO_EXTRACTOR_NAME", "").removeprefix("tap-")
    return extractor or "singer"


def _check_masked(given: Mapping[str, Json]) -> None:
    for name, spec in _PROPERTIES.items():
        value = str(given[name] or "")
        is_masked = value == "(redacted)" or (len(value) > 1 and set(value) == {"*"})
        if spec.get("secret") and is_masked:
            msg = (
                f"`{name}` is masked: this config was printed by `meltano config` "
                "without `--unsafe`."
            )
            raise ConfigError(msg)


def _check_key(api_key: str) -> None:
    if not api_key.isascii() or not api_key.isprintable() or not api_key.strip():
        msg = (
            "`api_key` is empty or holds characters no HTTP header can carry; copy it "
            "again from Settings > API Keys in Stairoids."
        )
        raise ConfigError(msg)


def _origin_of(api_url: str) -> str:
    """Return scheme, host and port; refuse a URL that would show the key to others."""
    try:
        url = urlsplit(api_url.strip())
        port = url.port
    except ValueError as error:
        msg = "`api_url` is not a URL."
        raise ConfigError(msg) from error
    if url.scheme not in {"http", "https"} or not url.hostname:
        msg = "`api_url` must be an https URL such as https://api.stairoids.com/v1."
        raise ConfigError(msg)
    if any(mark in api_url for mark in "@?#"):
        msg = "`api_url` must hold neither credentials nor a query; use `api_key`."
        raise ConfigError(msg)
    if url.scheme == "http" and not _is_loopback(url.hostname):
        msg = (
            f"`api_url` must be https: plain http would show the API key to the "
            f"network (host {url.hostname}). Only loopback addresses may use http."
        )
        raise ConfigError(msg)
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    is_usual = port in {None, 443 if url.scheme == "https" else 80}
    return f"{url.scheme}://{host}" if is_usual else f"{url.scheme}://{host}:{port}"


def _is_loopback(host: str) -> bool:
    return host in {"localhost", "::1"} or (
        host.startswith("127.") and host.replace(".", "").isdigit()
    )
