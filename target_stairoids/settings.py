"""The settings of the target. Schema, defaults and documents come from `Settings`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from stairoids_common.config import is_loopback, local_path
from stairoids_common.environment import secret_error
from stairoids_common.settings import SECRET, config_schema_of, settings_from
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.signals_setting import MappingItem, Name

# No clock and no socket takes any number of seconds.
_Seconds = Annotated[int, Meta(le=10_000_000)]
_Limit = Annotated[int, Meta(ge=1)] | None
_Days = Annotated[int, Meta(ge=0)] | None
_PATHS = "report_path", "metrics_path", "suppress_path"
#: The default of `ledger_url`.
LEDGER_URL = "sqlite:///.stairoids/ledger.db"
_HOST = re.compile(r"[\da-f.]*:[\da-f:.]*(?:%\w+)?|(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The config that the user gives, and the values derived from it.

    Attributes:
        api_key: Stairoids API key. Create one with the `read_write` scope: the target
            reads signals to learn the outcome of a request without a response.
        api_url: Base URL of the Stairoids API. Plain http is accepted for loopback
            addresses only.
        source: The `source` of every signal whose mapping names none. Without it the
            name of the Meltano extractor without `tap-`, else `singer`.
        signals: How streams become signals: a list of mappings. Fields that a mapping
            leaves out, and streams without a mapping, are inferred.
        ledger_url: Database of the ledger, the durable list of sent signals: an
            SQLAlchemy URL of SQLite (relative to the working directory) or PostgreSQL.
        namespace: A name for this pipeline's part of the ledger. Pipelines that read
            streams of one name from different databases need it to share a ledger.
        max_in_flight: How many requests may wait for their response at once.
        requests_per_minute: The rate limit. Without it the target learns the quota from
            the responses' headers, starting at 60; a response without such headers
            lifts the limit.
        request_timeout_seconds: Seconds to wait for the response to one request.
        dry_run: Map and validate records and read the ledger, but send nothing, write
            nothing to the ledger and emit no STATE.
        first_run: The action if Stairoids has signals of a source that the ledger does
            not know. Hold the source back (`guard`), send it (`send`), or remember its
            records and those of new streams, and send none of them (`baseline`).
        report_path: File to which the run report is written as JSON.
        notify: URLs that get a message when this pipeline fails, works again, is
            incomplete for a day, or has new dead letters. A URL with https gets JSON.
            URLs of other services need the extra `notify` (Apprise).
        metrics_path: File for figures of the run, as text that Prometheus reads through
            the textfile collector of its node exporter. The name ends in `.prom`.
        on_unknown: A request without a response may have been accepted. Look for its
            signal and send again only if it is not there (`verify`), or keep it as a
            dead letter for a person (`hold`).
        verify_delay_seconds: Seconds between a request without a response and the
            lookup of its signal.
        outage_seconds: Seconds of failed requests without an accepted signal, after
            which the run ends incomplete (exit code 75).
        on_incomplete: The end of a run that leaves signals for the next run. Exit code
            75 (`fail`), or 0 after the whole input was read without further STATE
            (`succeed`).
        fail_on_dead_letters: End with exit code 1 if a record became a dead letter,
            after all other signals have their outcome.
        requests_per_day: Make at most this many requests per day (UTC), counted in the
            ledger over all runs. The rest stays pending (exit code 75).
        max_signals_per_run: Send at most this many signals in one run. The rest stays
            pending for the next run (exit code 75).
        max_run_minutes: Send for at most this many minutes. The rest stays pending for
            the next run (exit code 75).
        max_event_age_days: Do not send signals whose `occurred_at` is older; they count
            as seen (`too_old`).
        suppress: People and companies that never get a signal: domains (with their
            subdomains), email addresses, or patterns with `*`.
        suppress_path: A file with more of `suppress`: one per line, or in a column of a
            CSV file; `#` starts a comment.
        keep_records: Whether dead letters keep the tap's record. Without it they cannot
            be exported and sent again.
        keep_keys: Whether the ledger keeps the key of each sent record for
            `tap-stairoids-signals`. Without it the ledger keeps the digest of the key.
        origin: The origin of `api_url`.
        scope: Origin and namespace. Each scope has its own entries in the ledger.
        default_source: The `source` of signals whose mapping names none.
        remembers_all: Whether every record is remembered as seen and none is sent.
        is_partial: Whether the input has some records only, so that no stream is
            complete and no mapping is remembered.
        rebuilds: Whether signals are only compared with those that Stairoids has.

    Raises:
        ConfigError: `api_url` or `api_key` cannot be used; the message says why.
    """

    api_key: Annotated[str, Meta(title="API key", extra_json_schema=SECRET)]
    api_url: Annotated[str, Meta(title="API URL")] = "https://api.stairoids.com/v1"
    source: Annotated[Name | None, Meta(title="Source")] = None
    signals: Annotated[tuple[MappingItem, ...], Meta(title="Signals")] = ()
    ledger_url: Annotated[str, Meta(title="Ledger URL", extra_json_schema=SECRET)] = (
        LEDGER_URL
    )
    namespace: Annotated[Name | None, Meta(title="Namespace")] = None
    max_in_flight: Annotated[int, Meta(title="Requests in flight", ge=1, le=100)] = 8
    requests_per_minute: Annotated[_Limit, Meta(title="Requests per minute")] = None
    request_timeout_seconds: Annotated[
        _Seconds, Meta(title="Request timeout", ge=1)
    ] = 30
    dry_run: Annotated[bool, Meta(title="Dry run")] = False
    first_run: Annotated[
        Literal["guard", "send", "baseline"], Meta(title="First run")
    ] = "guard"
    report_path: Annotated[str | None, Meta(title="Report file")] = None
    notify: Annotated[
        tuple[str, ...], Meta(title="Notify", extra_json_schema=SECRET)
    ] = ()
    metrics_path: Annotated[str | None, Meta(title="Metrics file")] = None
    on_unknown: Annotated[Literal["verify", "hold"], Meta(title="On unknown")] = (
        "verify"
    )
    verify_delay_seconds: Annotated[_Seconds, Meta(title="Verify delay", ge=0)] = 10
    outage_seconds: Annotated[_Seconds, Meta(title="Outage", ge=0)] = 900
    on_incomplete: Annotated[
        Literal["fail", "succeed"], Meta(title="On incomplete")
    ] = "fail"
    fail_on_dead_letters: Annotated[bool, Meta(title="Fail on dead letters")] = False
    requests_per_day: Annotated[_Limit, Meta(title="Requests per day")] = None
    max_signals_per_run: Annotated[_Limit, Meta(title="Signals per run")] = None
    max_run_minutes: Annotated[_Limit, Meta(title="Run minutes")] = None
    max_event_age_days: Annotated[_Days, Meta(title="Event age")] = None
    suppress: Annotated[tuple[str, ...], Meta(title="Suppress")] = ()
    suppress_path: Annotated[str | None, Meta(title="Suppression file")] = None
    keep_records: Annotated[bool, Meta(title="Keep records")] = True
    keep_keys: Annotated[bool, Meta(title="Keep keys")] = True

    origin: str = ""
    scope: str = ""
    default_source: str = ""
    remembers_all: bool = False
    is_partial: bool = False
    rebuilds: bool = False

    def __post_init__(self) -> None:
        for name in ("api_key", "ledger_url"):
            if re.fullmatch(r"\(redacted\)|\*{2,}", getattr(self, name)):
                raise ConfigError(
                    f"`{name}` is masked: this config was printed by `meltano config` "
                    "without `--unsafe`."
                )
        key = self.api_key
        if key.strip() and (error := secret_error("api_key", key)):
            raise ConfigError(error)
        if not key.isascii() or not key.strip():
            raise ConfigError(
                "`api_key` is empty or holds characters no HTTP header can carry; copy "
                "it again from Settings > API Keys in Stairoids."
            )
        for number, item in enumerate(self.signals):
            if item.suppress and (useless := item.without_use()):
                raise ConfigError(
                    f"`signals[{number}].{useless[0]}` has no use, because a mapping "
                    "with `suppress` sends nothing. Remove it, or give the stream a "
                    "second mapping."
                )
        for number, url in enumerate(self.notify):
            if problem := _notify_problem(url):
                raise ConfigError(f"`notify[{number}]` {problem}")
        extractor = os.environ.get("MELTANO_EXTRACTOR_NAME", "").removeprefix("tap-")
        origin = _origin_of(self.api_url)
        derived = {
            "origin": origin,
            "scope": f"{origin} {self.namespace}" if self.namespace else origin,
            "api_url": self.api_url.strip().rstrip("/"),
            "default_source": self.source or extractor or "singer",
            **{name: self._path(name) for name in _PATHS},
        }
        for name, value in derived.items():
            msgspec.structs.force_setattr(self, name, value)

    def _path(self, name: str) -> str | None:
        """Return the path in a setting, with the user's folder for `~`."""
        path = (getattr(self, name) or "").strip()
        try:
            found = local_path(path) if path else None
            if found and name != "suppress_path" and found.is_dir():
                raise ConfigError(f"`{name}` names a folder. Name a file in it.")
            if found and name == "metrics_path" and not found.name.endswith(".prom"):
                raise ConfigError(
                    "`metrics_path` must end in `.prom`, because Prometheus' node "
                    "exporter reads no other files."
                )
            return str(found) if found else None
        except OSError as error:
            raise ConfigError(f"`{name}` names {error.strerror}.") from None

    def __repr__(self) -> str:
        """Return text without the values, because some are secrets."""
        return "Settings(...)"

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Return the settings of a config in which `config_errors` found no mistake."""
        return settings_from(cls, config)


def config_schema() -> dict[str, Any]:
    """Return the config's JSON Schema, a new object for every caller."""
    return config_schema_of(Settings)


def _notify_problem(url: str) -> str:
    """Return why a URL of `notify` cannot be used, without the URL; "" if it can."""
    try:
        scheme, host = urlsplit(url).scheme, urlsplit(url).hostname or ""
    except ValueError:
        return "is not a URL."
    if scheme == "https" or (scheme == "http" and is_loopback(host)):
        return "" if host else "is not a URL."
    if scheme == "http":
        return "must be https. Only loopback addresses may use http."
    if find_spec("apprise") is None:
        return "needs `pip install singer-stairoids[notify]`, or a URL with https."
    from apprise import Apprise  # noqa: PLC0415 - an extra, and slow to import

    return "" if Apprise.instantiate(url) else "is no URL that Apprise knows."


def _origin_of(api_url: str) -> str:
    """Return scheme, host and port of a URL, and refuse one that exposes the key."""
    try:
        url = urlsplit(api_url.strip())
        port = url.port
    except ValueError as error:
        raise ConfigError("`api_url` is not a URL.") from error
    host = url.hostname or ""
    if url.scheme not in {"http", "https"} or not _HOST.fullmatch(host):
        raise ConfigError(
            "`api_url` must be an https URL such as https://api.stairoids.com/v1."
        )
    if any(mark in api_url for mark in "@?#"):
        raise ConfigError(
            "`api_url` must hold neither credentials nor a query; use `api_key`."
        )
    if url.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            f"`api_url` must be https: plain http would show the API key to the "
            f"network (host {host}). Only loopback addresses may use http."
        )
    host = f"[{host}]" if ":" in host else host
    is_usual = port in {None, 443 if url.scheme == "https" else 80}
    return f"{url.scheme}://{host}" if is_usual else f"{url.scheme}://{host}:{port}"
