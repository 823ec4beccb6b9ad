"""Writes the plugins' settings into the documents, meltano.yml, hub/ and a schema.

    PYTHONPATH=. python docs/settings.py           writes the files
    PYTHONPATH=. python docs/settings.py --check   exits 1 if one is out of date

docs/reference/settings.md has a table between `<!-- settings:target -->` or
`<!-- settings:tap -->` and `<!-- /settings -->`. meltano.yml has a list below each
`settings: # make docs: NAME`.
The JSON Schema of the target's config is in docs/target-stairoids.schema.json.
The definitions in hub/ are made from meltano.yml in the format of Meltano's Hub, which
`meltano add --from-ref` reads as well. `reference.py` makes the pages in
docs/reference.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from docs.error_ids import numbered
from docs.reference import exit_codes, pages
from stairoids_common.settings import config_schema_of
from tap_stairoids_webhooks.config import TapConfig
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from target_stairoids.cli.check import editor_schema
from target_stairoids.settings import Settings
from target_stairoids.sync_log.tap import TapSettings, TapStairoidsSignals
from target_stairoids.target import TargetStairoids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from singer_sdk.plugin_base import PluginBase

ROOT = Path(__file__).resolve().parent.parent
WIDTH = 88
_DISTRIBUTION = "singer-stairoids"
_DEFINED = (
    ("extractors", TapStairoidsSignals.name),
    ("extractors", TapStairoidsWebhooks.name),
    ("loaders", TargetStairoids.name),
)
#: The texts around the settings on a page of the Hub, in Markdown.
_HUB_TEXTS = {
    TargetStairoids.name: {
        "prereq": "You need an API key of Stairoids with the scope `read_write` "
        "(Settings > API Keys). Without a key, try the sandbox: "
        "`stairoids-sandbox serve`.",
        "usage": "`meltano invoke target-stairoids:preview messages.jsonl` shows the "
        "signals of a tap's output and sends nothing. "
        "`meltano run TAP target-stairoids` sends each of them once.",
        "settings_preamble": "Only `api_key` is required. Streams are then mapped by "
        "the names of their columns, and `signals` makes the mapping exact.",
        "next_steps": "Keep the ledger (`ledger_url`) on a disk that survives, or in "
        "PostgreSQL. `meltano invoke target-stairoids:report` lists the runs, and "
        "`target-stairoids:dead-letters` lists the failed records.",
    },
    TapStairoidsWebhooks.name: {
        "prereq": "A receiver fills the store: `stairoids-webhooks serve`, with the "
        "secret of your webhook endpoint in `STAIROIDS_WEBHOOK_SECRET`.",
        "usage": "`meltano run tap-stairoids-webhooks TARGET` loads the events that "
        "came since the last run.",
        "settings_preamble": "No setting is required. Give the receiver the same "
        "`store_url`. A relative SQLite path begins in the project's folder.",
        "next_steps": "Load `tap-stairoids-signals` too. One query then answers which "
        "of your rows led to which action.",
    },
    TapStairoidsSignals.name: {
        "prereq": "`target-stairoids` fills the ledger.",
        "usage": "`meltano run tap-stairoids-signals TARGET` loads the signals that "
        "were accepted since the last run.",
        "settings_preamble": "No setting is required. Give `target-stairoids` the "
        "same `ledger_url`. A relative SQLite path begins in the project's folder.",
        "next_steps": "Load `tap-stairoids-webhooks` too. One query then answers "
        "which of your rows led to which action.",
    },
}
# The group `old` is replaced by the settings of the plugin `name`.
_IN_PAGES = re.compile(
    r"<!-- settings:(?P<name>\w+) -->\n(?P<old>.*?)(?=<!-- /settings -->)", re.DOTALL
)
_PLACES = {
    "docs/reference/exit-codes.md": _IN_PAGES,
    "docs/reference/settings.md": _IN_PAGES,
    "meltano.yml": re.compile(
        r"^ {4}settings: # make docs: (?P<name>[\w-]+)\n(?P<old>(?:^ {4}[- ] .*\n)*)",
        re.MULTILINE,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """A plugin's settings: its own, and those of the Singer SDK."""

    own: dict[str, dict[str, Any]]
    builtin: dict[str, dict[str, Any]]


def plugin_of(class_: type[PluginBase], schema: dict[str, Any]) -> Plugin:
    """Return the settings of a plugin's class, and those that the SDK adds.

    Args:
        schema: The plugin's own settings. The SDK may have changed those of the class.
    """
    own = dict(schema["properties"])
    required = schema.get("required", ())
    own = {name: {**spec, "required": name in required} for name, spec in own.items()}
    class_.append_builtin_config(schema)
    builtin = {name: s for name, s in schema["properties"].items() if name not in own}
    return Plugin(own=own, builtin=builtin)


def table_of(plugin: Plugin) -> str:
    """Return the settings as a table in Markdown."""
    lines = ["| setting | type | default | |", "| --- | --- | --- | --- |"]
    for name, spec in plugin.own.items():
        default = f"`{_text(spec['default'])}`" if "default" in spec else ""
        if spec["required"]:
            default = "required"
        kind = " \\| ".join(f"`{v}`" for v in spec.get("enum", ())) or _kind(spec)
        text = spec["description"] + (" Secret." if spec.get("secret") else "")
        lines.append(f"| `{name}` | {kind} | {default} | {text} |")
    names = ", ".join(f"`{name}`" for name in plugin.builtin)
    after = f"The Singer SDK adds {names}."
    return "\n".join([*lines, "", *textwrap.wrap(after, WIDTH), ""])


def meltano_settings_of(plugin: Plugin) -> str:
    """Return the items of a plugin's `settings` in meltano.yml."""
    items = [_item(name, spec) for name, spec in plugin.own.items()]
    items += [f"- name: {n}\n  kind: {_kind(s)}\n" for n, s in plugin.builtin.items()]
    return textwrap.indent("".join(items), " " * 4)


def _item(name: str, spec: dict[str, Any]) -> str:
    lines = [f"- name: {name}", f"  label: {spec['title']}"]
    lines.append(f"  kind: {'options' if 'enum' in spec else _kind(spec)}")
    if spec.get("secret"):
        lines.append("  sensitive: true")
    if "default" in spec:
        lines.append(f"  value: {_text(spec['default'])}")
    if "enum" in spec:
        lines.append("  options:")
        lines += [f"  - {{label: {v}, value: {v}}}" for v in spec["enum"]]
    lines.append("  description: >-")
    text = textwrap.wrap(spec["description"], WIDTH - 8)
    return "\n".join([*lines, *(f"    {line}" for line in text), ""])


def hub_definition_of(declared: Mapping[str, Any]) -> str:
    """Return a plugin's definition for the Hub, from its entry in meltano.yml."""
    required = declared.get("settings_group_validation")
    definition = {
        "name": declared["name"],
        "namespace": declared["namespace"],
        "variant": _DISTRIBUTION,
        "label": declared["label"],
        "description": declared["description"],
        "domain_url": "https://docs.stairoids.com",
        "pip_url": _DISTRIBUTION,
        "executable": declared["executable"],
        "maintenance_status": "beta",
        "quality": "unknown",
        "keywords": ["meltano_sdk", "signals", "webhooks", "reverse_etl"],
        "capabilities": declared["capabilities"],
        "log_parser": "singer-sdk",
        **_HUB_TEXTS[declared["name"]],
        **({"settings_group_validation": required} if required else {}),
        **({"commands": commands} if (commands := declared.get("commands")) else {}),
        "settings": declared["settings"],
    }
    text = yaml.safe_dump(
        definition, sort_keys=False, allow_unicode=True, width=WIDTH - 4
    )
    return f"# Made by `make docs` from meltano.yml.\n{text}"


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _kind(spec: dict[str, Any]) -> str:
    """Return a setting's type, named `kind` in meltano.yml."""
    types = [spec["type"]] if isinstance(spec["type"], str) else spec["type"]
    (kind,) = (t for t in types if t != "null")
    return str(kind)


def filled(name: str, place: re.Pattern[str], contents: Mapping[str, str]) -> str:
    """Return a file's text with the current settings.

    Raises:
        LookupError: The file has no place for some settings.
    """
    text = (ROOT / name).read_text(encoding="utf-8")
    lacking = set(contents) - {match["name"] for match in place.finditer(text)}
    if lacking:
        msg = f"{name}: no place for {', '.join(sorted(lacking))}"
        raise LookupError(msg)

    def fill(match: re.Match[str]) -> str:
        return match[0].removesuffix(match["old"]) + contents[match["name"]]

    return place.sub(fill, text)


def texts() -> dict[Path, str]:
    """Return the text of each file as it should be, by path.

    Raises:
        LookupError: A file has no place for some settings.
    """
    target, tap, signals = (
        plugin_of(TargetStairoids, config_schema_of(Settings)),
        plugin_of(TapStairoidsWebhooks, config_schema_of(TapConfig)),
        plugin_of(TapStairoidsSignals, config_schema_of(TapSettings)),
    )
    contents = {
        "docs/reference/exit-codes.md": {"exit_codes": exit_codes()},
        "docs/reference/settings.md": {
            "target": table_of(target),
            "tap": table_of(tap),
            "signals": table_of(signals),
        },
        "meltano.yml": {
            TargetStairoids.name: meltano_settings_of(target),
            TapStairoidsWebhooks.name: meltano_settings_of(tap),
            TapStairoidsSignals.name: meltano_settings_of(signals),
        },
    }
    found = {
        ROOT / name: filled(name, place, contents[name])
        for name, place in _PLACES.items()
    }
    plugins = yaml.safe_load(found[ROOT / "meltano.yml"])["plugins"]
    for kind, name in _DEFINED:
        (declared,) = (plugin for plugin in plugins[kind] if plugin["name"] == name)
        found[ROOT / f"hub/{kind}/{name}.yml"] = hub_definition_of(declared)
    schema = json.dumps(editor_schema(), indent=2) + "\n"
    found[ROOT / "docs/target-stairoids.schema.json"] = schema
    page, ids = numbered((ROOT / "docs/troubleshooting.md").read_text("utf-8"))
    found[ROOT / "docs/troubleshooting.md"] = page
    found[ROOT / "stairoids_common/error_ids.json"] = ids
    return found | {ROOT / "docs/reference" / n: text for n, text in pages().items()}


def main() -> int:
    """Write or check the files; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing")
    check = parser.parse_args().check
    try:
        wanted = texts()
    except LookupError as error:
        print(error)
        return 1
    stale = {
        path: text
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        if check:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`.")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
