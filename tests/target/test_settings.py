"""The settings of the target: their schema, their values and their errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from stairoids_common.config_errors import config_errors, suggestion
from target_stairoids.exceptions import ConfigError
from target_stairoids.settings import Settings, config_schema

if TYPE_CHECKING:
    from pathlib import Path

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
        ({"api_key": 7_777_777}, "`api_key` must be of type string"),
        ({"ledger_url": [CANARY]}, "`ledger_url` must be of type string"),
        ({"source": ""}, "`source` must not be empty"),
        ({"source": " \n"}, "`source` must not be empty"),
        ({"namespace": "\t"}, "`namespace` must not be empty"),
        ({"signals": [{"stream": " "}]}, "`signals[0].stream` must not be empty"),
        (
            {"signals": [{"stream": "a", "source": " "}]},
            "`signals[0].source` must not be empty",
        ),
        (
            {"signals": [{"stream": "a", "when": " "}]},
            "`signals[0].when` must not be empty",
        ),
        (
            {"first_run": CANARY},
            "`first_run` must be one of baseline, guard or send",
        ),
        ({"max_in_flight": 0}, "`max_in_flight` must be at least 1"),
        ({"max_in_flight": 7_777_777}, "`max_in_flight` must be at most 100"),
        ({"max_in_flight": CANARY}, "`max_in_flight` must be of type integer"),
        ({"outage_seconds": 10**13}, "`outage_seconds` must be at most 10000000"),
        ({"signals": CANARY}, "`signals` must be of type array"),
        ({"signals": [CANARY]}, "`signals[0]` must be of type object"),
        ({"signals": [{}]}, "`signals[0].stream` is required"),
        (
            {"signals": [{"stream": "a"}, {"stream": "b", "send": CANARY}]},
            "`signals[1].send` must be one of always, on_change or once",
        ),
        (
            {"signals": [{"stream": "a", "contact": {"email": [CANARY]}}]},
            "`signals[0].contact.email` must be of type string or null",
        ),
        (
            {"signals": [{"stream": "a", "properties": CANARY}]},
            (
                "`signals[0].properties` has a form that is not allowed (allowed: * or "
                "object or array or null)"
            ),
        ),
        (
            {"signals": [{"stream": "a", "key": []}]},
            "`signals[0].key` must not be empty",
        ),
        (
            {"namespace": "eu\0"},
            "`namespace` has the character NUL, or half of a surrogate pair",
        ),
        (
            {"signals": [{"stream": "a", "name": "\ud83d"}]},
            "`signals[0].name` has the character NUL, or half of a surrogate pair",
        ),
        (
            {"signals": [{"stream": "a", "skip": ["\0"]}]},
            "`signals[0].skip[0]` has the character NUL, or half of a surrogate pair",
        ),
    ],
)
def test_config_error_names_the_setting_and_not_its_value(
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
def test_unknown_setting_is_an_error_with_a_suggestion(
    config: dict[str, Any], message: str
) -> None:
    assert errors_of(**config) == [message]


def test_all_config_errors_are_reported_at_once() -> None:
    assert errors_of(max_in_flight=0, dry_run="yes", zzz=1) == [
        "`dry_run` must be true or false",
        "`max_in_flight` must be at least 1",
        "`zzz` is not a setting",
    ]


def test_config_schema_returns_a_new_object_each_time() -> None:
    config_schema()["properties"]["api_key"]["title"] = "changed"
    config_schema()["properties"]["stream_maps"] = {}

    assert config_schema()["properties"]["api_key"]["title"] == "API key"
    assert "stream_maps" not in config_schema()["properties"]


def test_no_setting_has_a_type_that_the_sdk_cannot_read_from_the_environment() -> None:
    types = {spec["type"] for spec in config_schema()["properties"].values()}

    assert types == {"array", "boolean", "integer", "string"}


def test_null_means_that_a_setting_is_not_set() -> None:
    assert errors_of(source=None, max_in_flight=None) == []
    assert settings_of(source=None, max_in_flight=None) == settings_of()
    assert config_errors({"api_key": None}, config_schema()) == [
        "`api_key` is required"
    ]


def test_whole_number_with_a_fraction_of_zero_is_an_integer() -> None:
    assert errors_of(max_in_flight=8.0) == []
    assert settings_of(max_in_flight=8.0).max_in_flight == 8


def test_settings_of_the_singer_sdk_are_ignored() -> None:
    assert settings_of(stream_maps={}) == settings_of()


@pytest.mark.parametrize("masked", ["(redacted)", "****"])
def test_masked_secret_is_refused(masked: str) -> None:
    with pytest.raises(ConfigError, match="`ledger_url` is masked"):
        settings_of(ledger_url=masked)


def test_every_field_of_a_mapping_has_a_description() -> None:
    item = config_schema()["properties"]["signals"]["items"]
    groups = [item["properties"][group] for group in ("account", "contact")]

    for schema in (item, *groups):
        assert all(spec["description"] for spec in schema["properties"].values())


def test_secret_settings_are_marked_in_the_schema() -> None:
    properties = config_schema()["properties"]

    secrets = {name for name, spec in properties.items() if spec.get("secret")}

    assert secrets == {"api_key", "ledger_url", "notify"}


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
        ("on_incomplete", "fail"),
        ("signals", ()),
    ],
)
def test_default_values(name: str, default: object) -> None:
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
def test_default_source_is_the_name_of_the_meltano_extractor(
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
        ("http://127.9.9.9/v1", "http://127.9.9.9/v1", None),
        ("http://[::1]:8080/v1", "http://[::1]:8080/v1", "http://[::1]:8080"),
        (
            " https://api.stairoids.com/v1\n",
            "https://api.stairoids.com/v1",
            "https://api.stairoids.com",
        ),
    ],
)
def test_api_url_is_normalised_and_its_origin_is_the_scope(
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
def test_spellings_of_one_origin_have_the_same_scope(api_url: str) -> None:
    assert settings_of(api_url=api_url).scope == "https://api.stairoids.com"


@pytest.mark.parametrize(
    "api_url",
    [
        "http://api.stairoids.com/v1",
        "http://127.evil.example/v1",
        "http://127.0.0.1.evil.example/v1",
        "http://localhost.evil.example/v1",
        "http://[::2]/v1",
    ],
)
def test_plain_http_is_refused_except_for_loopback(api_url: str) -> None:
    with pytest.raises(ConfigError, match="`api_url` must be https: plain http"):
        settings_of(api_url=api_url)


@pytest.mark.parametrize(
    "api_url",
    [
        "",
        "api.stairoids.com/v1",
        "ftp://api.stairoids.com",
        "https://",
        "https://[::1",
        "https://api.stairoids.com:port/v1",
        "https://api.stairoids.com:99999/v1",
        "https://api stairoids.com/v1",
        "https://.com/v1",
        "https://*.stairoids.com/v1",
    ],
)
def test_api_url_that_is_no_https_url_is_refused(api_url: str) -> None:
    with pytest.raises(ConfigError, match="`api_url`"):
        settings_of(api_url=api_url)


@pytest.mark.parametrize(
    "api_url",
    [
        f"https://user:{CANARY}@api.stairoids.com/v1",
        f"http://localhost:{CANARY}@evil.example/v1",
        f"https://api.stairoids.com/v1?key={CANARY}",
        f"https://api.stairoids.com/v1#{CANARY}",
        "https://api.stairoids.com/v1?",
    ],
)
def test_api_url_with_credentials_or_query_is_refused_and_not_repeated(
    api_url: str,
) -> None:
    with pytest.raises(ConfigError, match="neither credentials nor a query") as refused:
        settings_of(api_url=api_url)

    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "api_key",
    ["", "   ", f"{CANARY}\r\nX-Evil: 1", f"{CANARY}é", "\x00"],
)
def test_api_key_that_no_header_can_carry_is_refused(
    api_key: str,
) -> None:
    with pytest.raises(ConfigError, match=r"`api_key` (is empty|has a)") as refused:
        Settings.from_config({"api_key": api_key})

    assert CANARY not in str(refused.value)


@pytest.mark.parametrize(
    "api_key", [f" {CANARY}", f"{CANARY} ", f"{CANARY}\n", f"{CANARY}\r", f"\t{CANARY}"]
)
def test_api_key_with_white_space_at_an_end_is_refused(api_key: str) -> None:
    with pytest.raises(ConfigError, match="begins or ends with white space") as refused:
        settings_of(api_key=api_key)

    assert CANARY not in str(refused.value)


@pytest.mark.parametrize("name", ["report_path", "suppress_path"])
def test_path_may_begin_with_the_home_folder(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")

    assert getattr(settings_of(**{name: "~/x.json"}), name) == "/home/ada/x.json"
    assert getattr(settings_of(**{name: " x.json "}), name) == "x.json"
    assert getattr(settings_of(**{name: " "}), name) is None


@pytest.mark.parametrize("name", ["report_path", "suppress_path"])
@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("~nobody-here/x", "the folder of an unknown user"),
        ("$HOME/x", "`$HOME`, and no variable is read"),
        ("/tmp/${RUN}/x", "`${RUN}`, and"),  # noqa: S108 - no file is made
        ("%TEMP%/x", "`%TEMP%`, and"),
    ],
)
def test_path_that_cannot_be_expanded_is_refused(
    name: str, path: str, error: str
) -> None:
    with pytest.raises(ConfigError, match=f"`{name}` names ") as refused:
        settings_of(**{name: path})

    assert error in str(refused.value)


def test_report_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="`report_path` names a folder"):
        settings_of(report_path=str(tmp_path))


@pytest.mark.parametrize("name", ["x.txt", "prom", "x.PROM", "x.prom.tmp", "x.prom/y"])
def test_metrics_path_that_prometheus_does_not_read_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"`metrics_path` must end in `\.prom`"):
        settings_of(metrics_path=name)


@pytest.mark.parametrize("api_key", ["x", "sk_test_1", "pk live/+=."])
def test_api_key_may_have_any_form(api_key: str) -> None:
    assert Settings.from_config({"api_key": api_key}).api_key == api_key


def test_text_of_settings_has_no_secrets() -> None:
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
