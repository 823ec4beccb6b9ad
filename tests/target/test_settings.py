"""A config is read once; what is wrong with it is said without its values."""

from __future__ import annotations

from typing import Any

import pytest

from stairoids_common.config_errors import config_errors, suggestion
from target_stairoids.exceptions import ConfigError
from target_stairoids.settings import Settings, config_schema

CANARY = "sk_live_CANARY"


def a_config(**more: Any) -> dict[str, Any]:
    return {"api_key": "sk_live_1", **more}


def errors_of(**more: Any) -> list[str]:
    return config_errors(a_config(**more), config_schema())


def settings_of(**more: Any) -> Settings:
    return Settings.from_config(a_config(**more))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "`api_key` is required"),
        ({"api_key": [CANARY]}, "`api_key` must be of type string"),
        ({"api_key": {"value": CANARY}}, "`api_key` must be of type string"),
        ({"api_key": 7_777_777}, "`api_key` must be of type string"),
        ({"ledger_url": [CANARY]}, "`ledger_url` must be of type string"),
        ({"ledger_url": {CANARY: 1}}, "`ledger_url` must be of type string"),
        ({"api_url": [CANARY]}, "`api_url` must be of type string"),
        ({"source": ""}, "`source` must not be empty"),
        (
            {"first_run": CANARY},
            "`first_run` must be one of baseline or guard or send",
        ),
        ({"max_in_flight": 0}, "`max_in_flight` must be at least 1"),
        ({"max_in_flight": 7_777_777}, "`max_in_flight` must be at most 100"),
        ({"max_in_flight": CANARY}, "`max_in_flight` must be of type integer"),
        ({"signals": CANARY}, "`signals` must be of type array"),
        ({"signals": [CANARY]}, "`signals[0]` must be of type object"),
        ({"signals": [{}]}, "`signals[0].stream` is required"),
        (
            {"signals": [{"stream": "a"}, {"stream": "b", "send": CANARY}]},
            "`signals[1].send` must be one of always or on_change or once",
        ),
        (
            {"signals": [{"stream": "a", "contact": {"email": [CANARY]}}]},
            "`signals[0].contact.email` must be of type string or null",
        ),
        (
            {"signals": [{"stream": "a", "properties": CANARY}]},
            "`signals[0].properties` has a form that is not allowed",
        ),
        (
            {"signals": [{"stream": "a", "key": []}]},
            "`signals[0].key` must not be empty",
        ),
    ],
)
def test_mistake_is_named_and_its_value_is_not(
    config: dict[str, Any], message: str
) -> None:
    given = {"api_key": CANARY, **config} if config else {}

    found = config_errors(given, config_schema())

    assert found == [message]
    assert CANARY not in str(found)
    assert "7777777" not in str(found)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"api_ulr": "x"},
            "`api_ulr` is not a setting; did you mean `api_url`?",
        ),
        ({"zzz": "x"}, "`zzz` is not a setting"),
        (
            {"signals": [{"stream": "a", "conact": {"email": "x"}}]},
            "`signals[0].conact` is not a setting; did you mean `contact`?",
        ),
        (
            {"signals": [{"stream": "a", "contact": {"emial": "x"}}]},
            "`signals[0].contact.emial` is not a setting; did you mean `email`?",
        ),
    ],
)
def test_misspelt_setting_gets_a_suggestion(
    config: dict[str, Any], message: str
) -> None:
    assert errors_of(**config) == [message]


def test_every_mistake_is_told_at_once() -> None:
    assert errors_of(max_in_flight=0, dry_run="yes", zzz=1) == [
        "`dry_run` must be of type boolean",
        "`max_in_flight` must be at least 1",
        "`zzz` is not a setting",
    ]


def test_schema_is_a_fresh_one_for_every_caller() -> None:
    config_schema()["properties"]["api_key"]["title"] = "changed"
    config_schema()["properties"]["stream_maps"] = {}

    assert config_schema()["properties"]["api_key"]["title"] == "API key"
    assert "stream_maps" not in config_schema()["properties"]


def test_numbers_are_integers() -> None:
    """The SDK cannot read a `number` from an environment variable."""
    types = {spec["type"] for spec in config_schema()["properties"].values()}

    assert types == {"array", "boolean", "integer", "string"}


def test_secrets_are_marked_for_meltano() -> None:
    properties = config_schema()["properties"]

    secrets = {name for name, spec in properties.items() if spec.get("secret")}

    assert secrets == {"api_key", "ledger_url"}


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("api_url", "https://api.stairoids.com/v1"),
        ("ledger_url", "sqlite:///.stairoids/ledger.db"),
        ("max_in_flight", 8),
        ("requests_per_minute", None),
        ("dry_run", False),
        ("first_run", "guard"),
        ("report_path", None),
        ("on_unknown", "verify"),
        ("verify_delay_seconds", 10),
        ("outage_seconds", 900),
        ("on_incomplete", "fail"),
        ("max_signals_per_run", None),
        ("signals", ()),
    ],
)
def test_default_is_the_documented_one(name: str, default: object) -> None:
    assert getattr(settings_of(), name) == default


@pytest.mark.parametrize(
    ("extractor", "source"),
    [
        (None, "singer"),
        ("", "singer"),
        ("tap-", "singer"),
        ("tap-postgres", "postgres"),
        ("tap-tap-water", "tap-water"),
        ("billing", "billing"),
    ],
)
def test_source_is_named_after_the_tap(
    extractor: str | None, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if extractor is None:
        monkeypatch.delenv("MELTANO_EXTRACTOR_NAME", raising=False)
    else:
        monkeypatch.setenv("MELTANO_EXTRACTOR_NAME", extractor)

    assert settings_of().default_source == source
    assert settings_of(source="given").default_source == "given"


@pytest.mark.parametrize(
    ("api_url", "base", "scope"),
    [
        (
            "https://api.stairoids.com/v1/",
            "https://api.stairoids.com/v1",
            "https://api.stairoids.com",
        ),
        (
            "https://app.stairoids.com/api",
            "https://app.stairoids.com/api",
            "https://app.stairoids.com",
        ),
        ("http://localhost:8080/v1", "http://localhost:8080/v1", None),
        ("http://127.0.0.1:1/v1", "http://127.0.0.1:1/v1", None),
        ("http://127.9.9.9/v1", "http://127.9.9.9/v1", None),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1", "http://[::1]:8080"),
        (
            " https://api.stairoids.com/v1\n",
            "https://api.stairoids.com/v1",
            "https://api.stairoids.com",
        ),
    ],
)
def test_api_url_loses_its_last_slash_and_gives_the_scope(
    api_url: str, base: str, scope: str | None
) -> None:
    settings = settings_of(api_url=api_url)

    assert settings.api_url == base
    assert settings.scope == (scope or base.removesuffix("/v1"))


@pytest.mark.parametrize(
    "api_url",
    [
        "https://api.stairoids.com",
        "https://api.stairoids.com/v1",
        "https://api.stairoids.com/v2",
        "https://API.Stairoids.com/v1",
        "HTTPS://api.stairoids.com:443/v1/",
    ],
)
def test_one_origin_is_one_scope_however_it_is_spelt(api_url: str) -> None:
    """Else the same URL spelt differently would send everything again."""
    assert settings_of(api_url=api_url).scope == "https://api.stairoids.com"


@pytest.mark.parametrize(
    "api_url",
    [
        "http://api.stairoids.com/v1",
        "http://127.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://localhost.evil.example/v1",
        "http://0.0.0.0/v1",
        "http://[::2]/v1",
    ],
)
def test_plain_http_is_for_loopback_only(api_url: str) -> None:
    with pytest.raises(ConfigError, match="`api_url` must be https: plain http"):
        settings_of(api_url=api_url)


@pytest.mark.parametrize(
    "api_url",
    [
        "",
        "api.stairoids.com/v1",
        "ftp://api.stairoids.com",
        "https://",
        "https:///v1",
        "file:///etc/passwd",
        "https://[::1",
        "https://api.stairoids.com:port/v1",
        "https://api.stairoids.com:99999/v1",
    ],
)
def test_what_is_no_https_url_is_refused(api_url: str) -> None:
    with pytest.raises(ConfigError, match="`api_url`"):
        settings_of(api_url=api_url)


@pytest.mark.parametrize(
    "api_url",
    [
        f"https://{CANARY}@api.stairoids.com/v1",
        f"https://:{CANARY}@api.stairoids.com/v1",
        f"https://user:{CANARY}@api.stairoids.com/v1",
        f"http://localhost:{CANARY}@evil.example/v1",
        f"https://api.stairoids.com/v1?key={CANARY}",
        f"https://api.stairoids.com/v1#{CANARY}",
        "https://api.stairoids.com/v1?",
    ],
)
def test_url_with_credentials_or_query_is_refused_and_not_repeated(
    api_url: str,
) -> None:
    with pytest.raises(ConfigError, match="neither credentials nor a query") as refused:
        settings_of(api_url=api_url)

    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "api_key",
    ["", "   ", f"{CANARY}\n", f"{CANARY}\r\nX-Evil: 1", f"{CANARY}é", "\x00"],
)
def test_key_no_header_can_carry_is_refused_and_not_repeated(api_key: str) -> None:
    with pytest.raises(ConfigError, match="`api_key` is empty or holds") as refused:
        Settings.from_config({"api_key": api_key})

    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("api_key", ["x", "sk_test_1", "pk live/+=."])
def test_form_of_a_key_is_stairoids_business(api_key: str) -> None:
    assert Settings.from_config({"api_key": api_key}).api_key == api_key


def test_settings_show_neither_key_nor_ledger_password() -> None:
    settings = Settings.from_config(
        {"api_key": CANARY, "ledger_url": f"postgresql://u:{CANARY}@host/db"}
    )

    assert CANARY not in repr(settings)
    assert CANARY not in str(settings)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("emial", "; did you mean `email`?"),
        ("Email", "; did you mean `email`?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_suggestion_is_the_most_similar_name(name: str, text: str) -> None:
    assert suggestion(name, ["id", "email", "plan"]) == text
