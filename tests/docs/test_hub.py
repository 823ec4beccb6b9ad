"""The definitions in hub/ fit the schema of Meltano's Hub."""

from __future__ import annotations

from typing import Any

import yaml
from jsonschema import Draft7Validator

from tests.support.paths import ROOT

DEFINITIONS = sorted((ROOT / "hub").rglob("*.yml"))
TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": TEXT}

# From schemas/ of github.com/meltano/hub, for the fields that we use.
_SETTING = {
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "label": TEXT,
        "description": TEXT,
        "value": {},
        "sensitive": {"type": "boolean"},
        "kind": {
            "enum": [
                "array",
                "boolean",
                "decimal",
                "integer",
                "object",
                "options",
                "string",
                "date_iso8601",
                "email",
                "file",
                "oauth",
            ]
        },
        "options": {
            "type": "array",
            "items": {
                "additionalProperties": False,
                "required": ["label", "value"],
                "properties": {"label": TEXT, "value": TEXT},
            },
        },
    },
}
_CAPABILITIES = {
    "extractors": [
        "about",
        "activate-version",
        "batch",
        "catalog",
        "discover",
        "log-based",
        "properties",
        "schema-flattening",
        "state",
        "stream-maps",
        "structured-logging",
        "test",
    ],
    "loaders": [
        "about",
        "activate-version",
        "batch",
        "datatype-failsafe",
        "hard-delete",
        "schema-flattening",
        "soft-delete",
        "stream-maps",
        "structured-logging",
        "target-schema",
        "validate-records",
    ],
}

#: The Hub does not require these. A page without them does not help a new user.
_TEXTS_OF_A_PAGE = ["prereq", "usage", "settings_preamble", "next_steps"]


def schema_of(kind: str) -> dict[str, Any]:
    return {
        "required": ["name", "namespace", "variant", "quality", *_TEXTS_OF_A_PAGE],
        "additionalProperties": False,
        "properties": {
            **dict.fromkeys(
                [
                    "name",
                    "namespace",
                    "variant",
                    "label",
                    "description",
                    "pip_url",
                    "executable",
                    "log_parser",
                    *_TEXTS_OF_A_PAGE,
                ],
                TEXT,
            ),
            "domain_url": {"type": "string", "pattern": "^https://"},
            "quality": {"enum": ["gold", "silver", "bronze", "unknown"]},
            "maintenance_status": {
                "enum": ["active", "beta", "development", "inactive", "unknown"]
            },
            "keywords": TEXTS,
            "capabilities": {"type": "array", "items": {"enum": _CAPABILITIES[kind]}},
            "settings_group_validation": {"type": "array", "items": TEXTS},
            "commands": {"type": "object"},
            "settings": {"type": "array", "items": _SETTING},
        },
    }


def test_each_plugin_is_defined() -> None:
    assert [path.relative_to(ROOT / "hub").as_posix() for path in DEFINITIONS] == [
        "extractors/tap-stairoids-signals.yml",
        "extractors/tap-stairoids-webhooks.yml",
        "loaders/target-stairoids.yml",
    ]


def test_definitions_fit_the_schema_of_the_hub() -> None:
    for path in DEFINITIONS:
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        validator = Draft7Validator(schema_of(path.parent.name))

        assert [error.message for error in validator.iter_errors(definition)] == []
        assert definition["name"] == path.stem


def test_urls_of_databases_are_secrets_because_they_may_hold_a_password() -> None:
    for path in DEFINITIONS:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))["settings"]
        urls = {s["name"]: s.get("sensitive") for s in settings if "_url" in s["name"]}
        urls.pop("api_url", None)

        assert set(urls.values()) == {True}, path.name
