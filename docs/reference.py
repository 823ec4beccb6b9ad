"""Makes the pages in docs/reference from the code. `make docs` writes them."""

from __future__ import annotations

import re
import tempfile
import textwrap
from collections.abc import Iterator
from typing import Any

import click
import requests
from singer_sdk import Tap

from tap_stairoids_webhooks.endpoints import send_samples
from tap_stairoids_webhooks.environment import (
    ADMIN_TOKEN_VARIABLE,
    API_KEY_VARIABLE,
    SECRET_VARIABLE,
    SECRETS_VARIABLE,
    ReceiverSettings,
)
from tap_stairoids_webhooks.receiver.server import Receiver
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from target_stairoids.dedup.outcome import EFFECTS, Outcome
from target_stairoids.ledger.structs import PipelineFacts
from target_stairoids.reporting.report import metrics_text
from target_stairoids.settings import Settings
from target_stairoids.sync_log.tap import TapStairoidsSignals
from tests.support.programs import COMMANDS

_TOKEN = "a-token-of-the-documents"  # noqa: S105 - opens nothing else
_SECRET = "whsec_of_the_documents"  # noqa: S105 - signs the samples only
_NOTE = "<!-- Made by `make docs` from the code. -->"
_ENDED_AT = "2026-01-31T12:00:00Z"
#: Variable without an option -> its meaning, the commands that read it.
_SECRETS = {
    API_KEY_VARIABLE: (
        "API key of Stairoids. The target reads it too.",
        "register list delete",
    ),
    SECRET_VARIABLE: (
        "The secret that signs the webhooks.",
        "serve register send-test import",
    ),
    SECRETS_VARIABLE: (
        "Several secrets as a JSON array, the newest first.",
        "serve register send-test import",
    ),
    ADMIN_TOKEN_VARIABLE: (
        "The password of the admin port: 16 characters or more.",
        "serve",
    ),
}
#: Variables of all programs, and the page that describes them.
_PREFIXES = (
    *(
        (f"`{prefix}_…`", f"[a setting of `{plugin}`](settings.md#variables)")
        for prefix, plugin in (
            ("TARGET_STAIROIDS", "target-stairoids"),
            ("TAP_STAIROIDS_WEBHOOKS", "tap-stairoids-webhooks"),
            ("TAP_STAIROIDS_SIGNALS", "tap-stairoids-signals"),
        )
    ),
    ("`STAIROIDS_CONFIG`", "[the config file of the target](settings.md)"),
    ("`STAIROIDS_WEBHOOKS_…`", "[an option of the receiver](#commands)"),
    ("`STAIROIDS_WEBHOOK_SECRET`", "[the secret of webhooks](#commands)"),
    (
        "`STAIROIDS_API_KEY`, `STAIROIDS_API_URL`",
        "[key and URL](settings.md#variables)",
    ),
    (
        "`LOGLEVEL`, `…_LOGLEVEL`, `SINGER_SDK_LOG_CONFIG`",
        "[the log of target and taps](../deploy/logs.md#target-and-taps)",
    ),
    (
        "`STAIROIDS_WEBHOOKS_LOG_LEVEL`, `STAIROIDS_WEBHOOKS_LOG_FORMAT`",
        "[the log of the receiver](../deploy/logs.md#the-receiver)",
    ),
)
_REPORT = {
    "ended_at": _ENDED_AT,
    "exit_code": 0,
    "seconds": 1.0,
    "read": 1,
    "requests": 1,
    "requests_per_minute": 60.0,
    "streams": {"trials": {Outcome.ACCEPTED: 1}},
}
_FACTS = PipelineFacts(
    last_success=_ENDED_AT,
    first_start=_ENDED_AT,
    dead_letters=1,
    oldest_dead_letter=_ENDED_AT,
    newest_dead_letter=1,
)


def pages() -> dict[str, str]:
    """Return the text of each page by its name."""
    return {
        "commands.md": _commands(),
        "metrics.md": _metrics(),
        "outcomes.md": _outcomes(),
        "streams.md": _streams(),
        "variables.md": _variables(),
    }


def _walk(
    command: click.Command, path: str, parent: click.Context | None = None
) -> Iterator[click.Context]:
    """Yield a context for a command and for each of its subcommands."""
    name = path.rpartition(" ")[2] if parent else path
    settings = {**command.context_settings, "terminal_width": 80}
    context = click.Context(command, parent, info_name=name, **settings)
    yield context
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from _walk(inner, f"{path} {name}", context)


def _contexts() -> Iterator[click.Context]:
    for name, program in COMMANDS.items():
        yield from _walk(program, name)


def _commands() -> str:
    lines = [_NOTE, "", "# Commands", "", "The help text of each command.", ""]
    for context in _contexts():
        if context.command.hidden:
            continue
        level = "###" if context.parent else "##"
        text = context.get_help().strip()
        lines += [f"{level} {context.command_path}", "", "```text", text, "```", ""]
    return "\n".join(lines)


def _table(*rows: tuple[str, ...]) -> list[str]:
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return [head, f"|{' --- |' * len(rows[0])}", *others, ""]


def _variables() -> str:
    helps = {name: text for name, (text, _) in _SECRETS.items()}
    users = {
        name: [f"`stairoids-webhooks {command}`" for command in commands.split()]
        for name, (_, commands) in _SECRETS.items()
    }
    for context in _contexts():
        for option in context.command.params:
            if isinstance(option, click.Option) and isinstance(option.envvar, str):
                helps.setdefault(option.envvar, option.help or "")
                users.setdefault(option.envvar, []).append(f"`{context.command_path}`")
    rows = [(f"`{n}`", helps[n], ", ".join(users[n])) for n in sorted(users)]
    return "\n".join(
        [
            _NOTE,
            "",
            "# Environment variables",
            "",
            *_table(("variable or prefix", "sets"), *_PREFIXES),
            "`TARGET_STAIROIDS_API_KEY_FILE` names a file that holds the key. Each",
            "variable of a setting or of the receiver has such a variant with `_FILE`.",
            "",
            "## Commands",
            "",
            "Variables set options of commands. An option on the command line wins.",
            "Secrets have no options. Only the sandbox has `--webhook-secret`.",
            "",
            *_table(("variable", "sets", "read by"), *rows),
        ]
    )


def _metrics() -> str:
    with (
        tempfile.TemporaryDirectory() as folder,
        Receiver(
            ReceiverSettings(
                store_url=f"sqlite:///{folder}/store.db", port=0, admin_port=0
            ),
            secrets=[_SECRET],
            token=_TOKEN,
        ) as receiver,
    ):
        # A metric of the last commit exists once there is one.
        list(send_samples(receiver.url, secret=_SECRET, now=_ENDED_AT))
        authorization = {"Authorization": f"Bearer {_TOKEN}"}
        url = f"{receiver.admin_url}/metrics"
        of_receiver = requests.get(url, headers=authorization, timeout=10).text
    of_target = metrics_text(_REPORT, _FACTS, Settings(api_key="sk_live_x"))
    return "\n".join(
        [
            _NOTE,
            "",
            "# Metrics",
            "",
            "Rules with these metrics:",
            "",
            "* [alerts of the target](../deploy/monitoring.md#alerts)",
            "* [alerts of the receiver](../deploy/monitor-the-receiver.md#alerts)",
            "",
            "## The file of a run (`metrics_path`)",
            "",
            *_metric_table(of_target),
            "## The receiver (`--admin-port`)",
            "",
            *_metric_table(of_receiver),
        ]
    )


def _metric_table(exposed: str) -> list[str]:
    kinds = dict(re.findall(r"^# TYPE (\S+) (\w+)", exposed, re.MULTILINE))
    helps = re.findall(r"^# HELP (stairoids_\S+) (.*)", exposed, re.MULTILINE)
    rows = [(f"`{n}`", kinds[n], t) for n, t in helps if not n.endswith("_created")]
    return _table(("metric", "type", "is"), *rows)


def _outcomes() -> str:
    effects = ("is_dead_letter", "is_done", "lets_state_pass")
    rows = [
        (f"`{o}`", *("yes" if getattr(its, name) else "" for name in effects))
        for o, its in EFFECTS.items()
    ]
    return "\n".join(
        [
            _NOTE,
            "",
            "# Effects of outcomes",
            "",
            "[Outcomes](../concepts/outcomes.md) defines each one.",
            "",
            *_table(
                (
                    "outcome",
                    "is a dead letter",
                    "ends `send: once`",
                    "lets STATE pass",
                ),
                *rows,
            ),
        ]
    )


def exit_codes() -> str:
    """Return the exit codes that the help of each program lists, as Markdown."""
    lines: list[str] = []
    for name, program in COMMANDS.items():
        text = next(_walk(program, name)).get_help()
        found = re.search(r"Exit codes:.*?(?=\n *\n|$)", text, re.DOTALL)
        if found:
            codes = textwrap.dedent(found[0].partition("\n")[2])
            lines += [f"### {name}", "", "```text", codes, "```", ""]
    return "\n".join(lines)


def _streams() -> str:
    url = "sqlite:////nonexistent/none.db"
    taps: tuple[Tap, ...] = (
        TapStairoidsWebhooks(config={"store_url": url}),
        TapStairoidsSignals(config={"ledger_url": url}),
    )
    lines = [_NOTE, "", "# Streams of the taps", ""]
    for tap in taps:
        streams: list[dict[str, Any]] = tap.catalog_dict["streams"]
        lines += [f"## {tap.name}", ""]
        for stream in streams:
            properties = stream["schema"]["properties"]
            keys = ", ".join(f"`{name}`" for name in stream["key_properties"])
            lines += [f"### {stream['tap_stream_id']}", "", f"Primary key: {keys}.", ""]
            rows = [_column(name, spec) for name, spec in properties.items()]
            lines += _table(("column", "type", "content"), *rows)
    return "\n".join(lines)


def _column(name: str, spec: dict[str, Any]) -> tuple[str, ...]:
    types = spec["type"] if isinstance(spec.get("type"), list) else [spec.get("type")]
    kind = spec.get("format") or " or ".join(t for t in types if t and t != "null")
    return f"`{name}`", kind, spec.get("description", "")
