"""Configs from files: null, text in place of other types, byte order marks."""

from __future__ import annotations

import json
import os
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import pytest

from stairoids_common.config import default_inputs, read_config, read_file, understood
from stairoids_common.config_errors import WrongConfigError
from target_stairoids.settings import config_schema

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fast


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"source": None, "stream_maps": None}, {}),
        ({"$schema": "target-stairoids.schema.json"}, {}),
        ({"dry_run": "true"}, {"dry_run": True}),
        ({"dry_run": "off"}, {"dry_run": False}),
        ({"dry_run": ""}, {}),
        ({"dry_run": "ture"}, {"dry_run": "ture"}),
        ({"max_in_flight": " 8 "}, {"max_in_flight": 8}),
        ({"max_in_flight": "eight"}, {"max_in_flight": "eight"}),
        ({"signals": '[{"stream": "a"}]'}, {"signals": [{"stream": "a"}]}),
        ({"signals": ""}, {}),
        ({"suppress": "a.com,b.com"}, {"suppress": ["a.com", "b.com"]}),
        ({"stream_maps": '{"a": null}'}, {"stream_maps": {"a": None}}),
        (
            {"source": "true", "report_path": "1"},
            {"source": "true", "report_path": "1"},
        ),
        ({"unknown": "true"}, {"unknown": "true"}),
        (
            {"signals": [{"stream": "a", "key": None, "send": None, "name": None}]},
            {"signals": [{"stream": "a"}]},
        ),
        (
            {"signals": [{"stream": "a", "type": None, "contact": {"email": None}}]},
            {"signals": [{"stream": "a", "type": None, "contact": {"email": None}}]},
        ),
        ({"signals": [None, 1, "x"]}, {"signals": [None, 1, "x"]}),
    ],
    ids=str,
)
def test_config_is_understood(given: dict[str, Any], value: dict[str, Any]) -> None:
    schema = config_schema()
    schema["properties"]["stream_maps"] = {"type": ["object", "null"], "properties": {}}

    assert understood(given, schema) == value


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_config_file_may_begin_with_a_byte_order_mark(
    tmp_path: Path, encoding: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"source": "é"}', encoding)

    assert read_file(str(path)) == {"source": "é"}


@pytest.mark.parametrize(
    ("text", "is_yaml"),
    [
        ("signals:\n- stream: a\n", True),
        ("---\napi_key: sk\n", True),
        ("# the recipe\nsignals: []\n", True),
        ('{"signals": [}', False),
        ("", False),
    ],
)
def test_config_in_yaml_is_told_that_configs_are_json(
    tmp_path: Path, text: str, *, is_yaml: bool
) -> None:
    path = tmp_path / "config.yml"
    path.write_text(text)

    with pytest.raises(WrongConfigError) as wrong:
        read_file(str(path))

    assert f"{path}, line 1, column " in str(wrong.value)
    assert (
        "A config file is JSON. YAML is for `meltano.yml`." in str(wrong.value)
    ) == (is_yaml)


@pytest.mark.parametrize("text", ['{"api_key": "canary"}', ' [{"canary": 1}]'])
def test_json_in_place_of_a_file_is_not_repeated(text: str) -> None:
    with pytest.raises(WrongConfigError) as wrong:
        read_file(text)

    assert str(wrong.value).startswith("--config has JSON. Name a file with it")
    assert "canary" not in str(wrong.value)


def test_environment_in_lower_case_is_named() -> None:
    with pytest.raises(
        WrongConfigError, match=r"env: no such file; did you mean `ENV`"
    ):
        read_file("env")


def test_missing_file_of_a_variable_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("STAIROIDS_CONFIG", "absent.json")

    with pytest.raises(WrongConfigError, match=r"absent.json: no such file \(STAIR"):
        read_file(*default_inputs())


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        ('{"a": 1,\n}', "not JSON; remove the comma before the bracket"),
        ('{"a": [1, ]}', "not JSON; remove the comma before the bracket"),
        ('{"a": 1 "b": 2}', "not JSON; a comma or a bracket is missing before it"),
        ('{"a": 1', "not JSON"),
        ('{"a": ,}', "not JSON"),
        ("{a: 1}", "not JSON"),
    ],
)
def test_frequent_mistake_in_json_is_named(
    tmp_path: Path, content: str, hint: str
) -> None:
    path = tmp_path / "config.json"
    path.write_text(content)

    with pytest.raises(WrongConfigError) as wrong:
        read_file(str(path))

    assert str(wrong.value).partition(": ")[2] == hint


def test_config_without_a_name_is_told_apart_from_a_folder() -> None:
    with pytest.raises(WrongConfigError, match=r"^--config is empty. Name a JSON file"):
        read_file("")


def test_setting_that_is_set_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"signals": [], "dry_run": true, "dry_run": false}')

    with pytest.raises(WrongConfigError) as wrong:
        read_file(str(path))

    assert str(wrong.value) == f"{path}: `dry_run` is set twice"


def test_shared_variables_are_used_if_the_config_has_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {"STAIROIDS_API_KEY": '"sk_shared"', "STAIROIDS_API_URL": "https://s/v1"}
    monkeypatch.setattr("os.environ", shared)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"api_url": "https://own/v1"}))
    prefix = "TARGET_STAIROIDS_"

    of_file = read_config([str(path)], config_schema(), prefix)
    of_environment = read_config(["ENV"], config_schema(), prefix)
    shared["TARGET_STAIROIDS_API_KEY"] = "sk_own"
    own = read_config(["ENV"], config_schema(), prefix)

    assert of_file == {"api_key": "sk_shared", "api_url": "https://own/v1"}
    assert of_environment == {"api_key": "sk_shared", "api_url": "https://s/v1"}
    assert own["api_key"] == "sk_own"


@pytest.mark.parametrize(
    ("of_meltano", "text", "config", "remedy"),
    [
        ({}, "eu", "{}", "Add `--config ENV`"),
        ({}, "us", '{"source": "us"}', None),
        ({"MELTANO_X": ""}, "eu", '{"source": "us"}', None),
        ({"MELTANO_X": ""}, "eu", "{}", "Declare the setting `source` of the"),
    ],
    ids=["other value", "same value", "declared in Meltano", "not declared there"],
)
def test_variable_that_would_change_the_config_and_is_not_read_is_warned_about(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    of_meltano: dict[str, str],
    text: str,
    config: str,
    remedy: str | None,
) -> None:
    monkeypatch.setattr("os.environ", {"TARGET_STAIROIDS_SOURCE": text, **of_meltano})
    path = tmp_path / "config.json"
    path.write_text(config)

    read_config([str(path)], config_schema(), "TARGET_STAIROIDS_")

    sentence = f"`TARGET_STAIROIDS_SOURCE` is set, but it is not read. {remedy}"
    assert (sentence in caplog.text) is (remedy is not None)
    assert bool(caplog.messages) is (remedy is not None)


@pytest.mark.parametrize(
    ("of_meltano", "text", "config", "remedy"),
    [
        ({}, "true", "{}", "Add `--config ENV`"),
        ({}, "1", '{"dry_run": false}', "Add `--config ENV`"),
        ({}, "false", "{}", None),
        ({}, "true", '{"dry_run": true}', None),
        ({"MELTANO_X": ""}, "true", '{"dry_run": false}', None),
        ({"MELTANO_X": ""}, "true", "{}", "Declare the setting `dry_run` of the"),
    ],
)
def test_no_signal_is_sent_while_a_variable_that_is_not_read_asks_for_a_dry_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of_meltano: dict[str, str],
    text: str,
    config: str,
    remedy: str | None,
) -> None:
    monkeypatch.setattr("os.environ", {"TARGET_STAIROIDS_DRY_RUN": text, **of_meltano})
    path = tmp_path / "config.json"
    path.write_text(config)
    sentence = f"`TARGET_STAIROIDS_DRY_RUN` is set, but it is not read. {remedy}"

    with pytest.raises(WrongConfigError, match=sentence) if remedy else nullcontext():
        read_config([str(path)], config_schema(), "TARGET_STAIROIDS_")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SUPPRESS", '["ada@acme.com"]'),
        ("SUPPRESS_PATH", "list.txt"),
        ("MAX_SIGNALS_PER_RUN", "5"),
    ],
)
def test_no_signal_is_sent_while_a_variable_that_is_not_read_holds_signals_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setattr("os.environ", {f"TARGET_STAIROIDS_{name}": text})
    path = tmp_path / "config.json"
    path.write_text("{}")
    arguments = [str(path)], config_schema(), "TARGET_STAIROIDS_"

    with pytest.raises(WrongConfigError, match=f"`TARGET_STAIROIDS_{name}` is set"):
        read_config(*arguments)
    assert read_config(*arguments, may_send=False) == {}
    path.write_text('{"dry_run": true}')
    assert read_config(*arguments) == {"dry_run": True}


def test_default_config_is_the_variable_or_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STAIROIDS_CONFIG", raising=False)
    nothing = default_inputs()
    (tmp_path / "config.json").write_text("{}")
    file = default_inputs()
    monkeypatch.setenv("STAIROIDS_CONFIG", "ENV")

    assert (nothing, file, default_inputs()) == ((), ("config.json",), ("ENV",))


def test_config_in_a_pipe_can_be_read_twice(tmp_path: Path) -> None:
    pipe = tmp_path / "config"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=('{"port": 1}',))
    writer.start()

    assert [read_file(str(pipe)) for _ in range(2)] == [{"port": 1}] * 2
    writer.join()
