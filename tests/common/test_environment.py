"""Settings from environment variables, and misspelt variables."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from stairoids_common.config_errors import WrongConfigError
from stairoids_common.environment import (
    check_variables,
    environment_config,
    variable,
    warn_of_shared_variables,
)
from tap_stairoids_webhooks.environment import receiver_settings
from target_stairoids.settings import config_schema
from target_stairoids.target import TargetStairoids

pytestmark = pytest.mark.fast

PREFIX = "TARGET_STAIROIDS_"
NAMES = [*config_schema()["properties"], "stream_maps"]


@pytest.fixture(autouse=True)
def _empty_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {})


def value_from_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> object:
    """Return the value, or NOT_SET."""
    monkeypatch.setitem(__import__("os").environ, PREFIX + name.upper(), text)
    return environment_config(TargetStairoids.full_schema(), PREFIX).get(
        name, "NOT SET"
    )


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *(("dry_run", text, True) for text in ("true", " TRUE ", "1", "yes", "on")),
        *(("dry_run", text, True) for text in ("y", "t", '"true"', "'true'", "true\r")),
        *(("dry_run", text, True) for text in ('"true"\r\n', '" true "', "\ufefftrue")),
        *(("keep_records", text, False) for text in ("false", "0", "No", "n", "F")),
        *(("keep_records", text, False) for text in ("off", '"false"', "false\r")),
        *(("dry_run", text, "NOT SET") for text in ("", " ", "\r", '""', "' '")),
        *(("signals", text, "NOT SET") for text in ("", '""')),
        ("source", "", "NOT SET"),
        ("source", ' "crm"\r', "crm"),
        ("source", "the 'crm'", "the 'crm'"),
        ("api_key", "'sk_1'", "sk_1"),
        *(("api_key", text, text) for text in (" sk_1", "sk_1\r", "\tsk_1")),
        ("api_key", ' "sk_1" ', " sk_1 "),
        ("api_key", '" sk_1"', " sk_1"),
        *(("api_key", text, "NOT SET") for text in ("", " \r", '" "')),
        ("first_run", "send\r", "send"),
        ("requests_per_minute", '"60"', 60),
        ("requests_per_minute", "60.0", 60),
        ("suppress", "acme.com, ada@x.com", ["acme.com", "ada@x.com"]),
        ("suppress", '["acme.com"]', ["acme.com"]),
        ("signals", '\'[{"stream": "a"}]\'', [{"stream": "a"}]),
    ],
)
def test_text_of_a_variable_becomes_the_value_of_the_setting(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    assert value_from_environment(monkeypatch, name, text) == value


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        *(("dry_run", t, "must be true or false") for t in ("ture", "2", "null", '"')),
        ("fail_on_dead_letters", "maybe", "must be true or false"),
        ("requests_per_minute", "1,000", "must be of type integer"),
        ("requests_per_minute", "1_000", "must be of type integer"),
        ("requests_per_minute", "60/min", "must be of type integer"),
        ("requests_per_minute", "1.5", "must be of type integer"),
        ("requests_per_minute", "NaN", "must be of type integer"),
        ("requests_per_minute", "1e999", "must be of type integer"),
        ("requests_per_minute", "٦٠", "must be of type integer"),
        ("requests_per_minute", "true", "must be of type integer"),
        ("requests_per_minute", "0", "must be at least 1"),
        ("max_in_flight", "101", "must be at most 100"),
        ("first_run", "canary", "must be one of baseline, guard or send"),
        ("first_run", "basline", "guard or send; did you mean `baseline`?"),
        ("signals", "canary", "must be of type array"),
        ("signals", "[canary", "`, line 1, column 2: not JSON"),
        ("signals", '[\n{"stream": "a"},\n{"x"}]', "`, line 3, column 5: not JSON"),
        ("signals", '[{"stream": "a", "stream": "b"}]', "`stream` is set twice"),
        ("signals", '[{"properties": {"x": NaN}}]', "`: not JSON"),
        ("notify", '["https://canary', "`, line 1, column 2: not JSON"),
        ("source", "half \ud800", "the character NUL, or half of a surrogate pair"),
        ("signals", '"canary"', "must be of type array"),
        ("signals", "{}", "must be of type array"),
        ("signals", "[" * 100_000, "`: it is nested too deeply"),
        ("signals", "[" * 101 + "]" * 101, "`: it is nested too deeply"),
        ("suppress", "[canary", "`, line 1, column 2: not JSON"),
        ("suppress", "[1]", "[0]` must be of type string"),
    ],
)
def test_text_that_is_no_value_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, error: str
) -> None:
    with pytest.raises(WrongConfigError) as wrong:
        value_from_environment(monkeypatch, name, text)

    assert str(wrong.value).startswith(f"`{PREFIX}{name.upper()}")
    assert str(wrong.value).endswith(error)
    assert "canary" not in str(wrong.value)


def test_secret_is_read_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "key").write_text("sk_1\n")
    monkeypatch.setattr("os.environ", {f"{PREFIX}API_KEY_FILE": str(tmp_path / "key")})

    check_variables(PREFIX, NAMES, warns=True)

    assert environment_config(config_schema(), PREFIX) == {"api_key": "sk_1"}


def variables(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("os.environ", dict.fromkeys(names, "canary"))


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TARGET_STAIROIDS_MAX_SIGNAL_PER_RUN", "MAX_SIGNALS_PER_RUN"),
        ("TARGET_STAIROIDS_DRYRUN", "DRY_RUN"),
        ("TARGET_STAIROIDS_DRY-RUN", "DRY_RUN"),
        ("TARGET_STAIROIDS_DRY.RUN", "DRY_RUN"),
        ("TARGET_STAIROIDS__DRY_RUN", "DRY_RUN"),
        ("TARGET_STAIROIDS_DRY__RUN", "DRY_RUN"),
        ("target_stairoids_dry_run", "DRY_RUN"),
        ("Target_Stairoids_Dry_Run", "DRY_RUN"),
        ("TARGET_STAIRIODS_DRY_RUN", "DRY_RUN"),
        ("TARGET_STAIROID_DRY_RUN", "DRY_RUN"),
        ("TARGET-STAIROIDS-DRY-RUN", "DRY_RUN"),
        ("STAIROIDS_DRY_RUN", "DRY_RUN"),
        ("STAIROIDS_TARGET_DRY_RUN", "DRY_RUN"),
        ("TARGET_STAIROIDS_APIKEY", "API_KEY"),
        ("TARGET_STAIROIDS_API_KEYS", "API_KEY"),
        ("TARGET_STAIROIDS_STREAM_MAP", "STREAM_MAPS"),
        ("TARGET_STAIROIDS_LOG_LEVEL", "LOGLEVEL"),
    ],
)
def test_variable_that_is_nearly_a_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    variables(monkeypatch, name)

    with pytest.raises(WrongConfigError) as wrong:
        check_variables(PREFIX, NAMES, warns=False)

    assert str(wrong.value) == (
        f"`{name}` is not a variable of a setting; did you mean `{PREFIX}{meant}`?"
    )


def test_misspelt_setting_of_meltano_names_the_command_that_unsets_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables(
        monkeypatch, "TARGET_STAIROIDS_DRYRUN", "STAIROIDS_DRY_RUN", "MELTANO_RUN_ID"
    )

    with pytest.raises(WrongConfigError) as wrong:
        check_variables(PREFIX, NAMES, warns=False)

    command = "meltano config unset target-stairoids dryrun"
    assert str(wrong.value) == (
        "`STAIROIDS_DRY_RUN` is not a variable of a setting; did you mean "
        f"`{PREFIX}DRY_RUN`?\n`TARGET_STAIROIDS_DRYRUN` is not a variable of a "
        f"setting; did you mean `{PREFIX}DRY_RUN`? If it is a setting in Meltano, run "
        f"`{command}`."
    )


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("STAIROIDS_API_KYE", "STAIROIDS_API_KEY"),
        ("STAIROIDS_APIKEY", "STAIROIDS_API_KEY"),
        ("STAIRODS_API_KEY", "STAIROIDS_API_KEY"),
        ("STAIROIDS_API_KEY_FIEL", "STAIROIDS_API_KEY_FILE"),
        ("STAIROIDS_CONFG", "STAIROIDS_CONFIG"),
        ("STAIROIDS_WEBHOOKS_SECRET", "STAIROIDS_WEBHOOK_SECRET"),
    ],
)
def test_variable_that_is_nearly_a_shared_one_is_warned_about(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    name: str,
    meant: str,
) -> None:
    variables(monkeypatch, name)

    warn_of_shared_variables()

    assert caplog.messages == [
        f"`{name}` is not read by this program; did you mean `{meant}`?"
    ]


@pytest.mark.parametrize(
    "name",
    [
        "TARGET_STAIROIDS_LOGLEVEL",
        "STAIROIDS_API_KEY_EU",
        "STAIROIDS_API_TOKEN",
        "STAIROIDS_WEBHOOKS_PORT",
        "STAIROIDS_WEBHOOK_URL",
        "TARGET_STAIROIDS__LOAD_SCHEMA",
        "TARGET_STAIROIDS__EU_API_KEY",
        "TARGET_STAIROIDS_EU__LOAD_SCHEMA",
        "TARGET_STAIROIDS_SERVICE_HOST",
        "TARGET_STAIROIDS_PORT_80_TCP",
        "TARGET_POSTGRES_DRY_RUN",
        "STAIROIDS_API_KEY",
        "STAIROIDS_API_URL",
        "STAIROIDS_CONFIG",
        "TAP_STAIROIDS_WEBHOOKS_STREAM_MAPS",
        "STAIROIDS_WEBHOOK_SECRET",
        "STAIROIDS_WEBHOOKS_STORE_URL",
        "STAIROIDS_WEBHOOK_SECRETS_FILE",
        "PATH",
        "",
    ],
)
def test_variables_of_others_are_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    variables(monkeypatch, name)

    check_variables(PREFIX, NAMES, warns=True)
    warn_of_shared_variables()

    assert caplog.messages == []


@pytest.mark.parametrize("end", ["", "S", "_FILE", "S_FILE"])
def test_secrets_of_the_receiver_are_left_alone_by_the_tap(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """Both programs often share an environment."""
    variables(monkeypatch, f"STAIROIDS_WEBHOOK_SECRET{end}")

    check_variables("TAP_STAIROIDS_WEBHOOKS_", ["secrets", "store_url"], warns=True)

    assert caplog.messages == []


@pytest.mark.parametrize(
    "name", ["API_KEY", "REQUESTS_PER_MINUTE", "DRY_RUN", "STREAM_MAPS", "LOGLEVEL"]
)
def test_variables_of_a_loader_that_inherits_are_left_alone_in_meltano(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    variables(monkeypatch, f"TARGET_STAIROIDS_EU_{name}", "MELTANO_LOADER_NAME")

    check_variables(PREFIX, NAMES, warns=True)

    assert caplog.messages == []


def test_other_unknown_variable_is_warned_about(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    variables(monkeypatch, "TARGET_STAIROIDS_COLOUR")
    caplog.set_level(logging.WARNING)

    check_variables(PREFIX, NAMES, warns=False)
    check_variables(PREFIX, NAMES, warns=True)

    assert caplog.messages == [
        "`TARGET_STAIROIDS_COLOUR` is not a variable of a setting. It is ignored."
    ]


@pytest.mark.parametrize("text", ["tcp://10.0.0.1:80", "udp://[fd00::1]:80"])
def test_port_that_kubernetes_sets_for_a_service_is_ignored(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """A Service `stairoids-webhooks` sets `STAIROIDS_WEBHOOKS_PORT` in each pod."""
    monkeypatch.setattr("os.environ", {"STAIROIDS_WEBHOOKS_PORT": text})

    assert variable("STAIROIDS_WEBHOOKS_PORT") is None
    assert receiver_settings().port == 8880


@pytest.mark.parametrize("text", ["", "  ", '"', '"a', "'a\""])
def test_only_one_pair_of_quotes_is_removed(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("os.environ", {"X": f'"{text}"'})

    assert variable("X") == (text.strip() or None)
