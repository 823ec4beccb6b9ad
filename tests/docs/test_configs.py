"""The settings and configs that we ship are valid, and equal wherever they stand."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from docs.settings import texts
from stairoids_common.config_errors import config_errors
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.settings import Settings, config_schema
from target_stairoids.target import TargetStairoids
from tests.support.documents import blocks, page, page_names
from tests.support.paths import ROOT
from tests.support.programs import COMMANDS, error_in

MELTANO = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
SCHEMA = ROOT / "docs/target-stairoids.schema.json"
PLUGINS = ["target-stairoids", "tap-stairoids-webhooks", "tap-stairoids-signals"]


def about(plugin: str) -> dict[str, Any]:
    arguments = ["--about", "--format=json"]
    printed = CliRunner().invoke(COMMANDS[plugin], arguments).stdout
    return dict(json.loads(printed))


@pytest.mark.parametrize("plugin", PLUGINS)
def test_description_is_one_sentence_for_users(plugin: str) -> None:
    assert "\n" not in about(plugin)["description"]


def sample(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "sample_configs" / name).read_text()))


def declared(plugin: str) -> dict[str, Any]:
    kinds = MELTANO["plugins"]["extractors"] + MELTANO["plugins"]["loaders"]
    (found,) = (entry for entry in kinds if entry["name"] == plugin)
    return dict(found)


def errors_in(config: dict[str, Any]) -> list[str]:
    return config_errors({"api_key": "k", **config}, config_schema())


def assert_is_part_of_meltano_yml(shown: dict[str, Any]) -> None:
    full = declared(shown["name"])
    settings = {item["name"]: item for item in full["settings"]}
    assert shown["namespace"] == full["namespace"]
    assert set(shown.get("capabilities", ())) <= set(full.get("capabilities", ()))
    for setting in shown["settings"]:
        assert setting.items() <= settings[setting["name"]].items()
    for name, command in shown.get("commands", {}).items():
        assert command.items() <= full["commands"][name].items()
    if shown["name"] == "target-stairoids":
        assert errors_in(shown["config"]) == []


def test_readme_meltano_and_hub_list_the_current_settings() -> None:
    stale = [path for path, text in texts().items() if path.read_text() != text]

    assert stale == [], "run `make docs`"


def test_meltano_declares_the_same_plugins_as_about() -> None:
    for plugin in PLUGINS:
        printed, full = about(plugin), declared(plugin)
        settings = {item["name"]: item for item in full["settings"]}
        schema = printed["settings"]
        groups = full.get("settings_group_validation", [[]])
        assert sorted(full["capabilities"]) == sorted(printed["capabilities"])
        assert groups == [schema.get("required", [])]
        assert list(settings) == list(schema["properties"])
        for name, spec in schema["properties"].items():
            setting = settings[name]
            choices = [option["value"] for option in setting.get("options", ())]
            kind = "string" if choices else setting["kind"]
            types = spec["type"] if isinstance(spec["type"], list) else [spec["type"]]
            assert set(types) - {"null"} == {kind}, name
            assert choices == spec.get("enum", []), name
            assert setting.get("value") == spec.get("default"), name
            assert setting.get("sensitive", False) == spec.get("secret", False), name


def test_commands_of_meltano_yml_exist() -> None:
    for plugin in PLUGINS:
        for command in declared(plugin).get("commands", {}).values():
            line = [command["executable"], *shlex.split(command["args"])]
            assert error_in(line) is None


def test_each_loader_in_a_sample_has_a_namespace_of_its_own() -> None:
    texts = [block for name in page_names() for block in blocks(page(name), "yaml")]
    samples = [MELTANO, *filter(lambda s: "plugins" in s, map(parsed, texts))]

    for sample_ in samples:
        loaders = [
            loader
            for loader in sample_["plugins"].get("loaders", ())
            if loader["name"].startswith("target-stairoids")
        ]
        spaces = {loader["config"].get("namespace") for loader in loaders}
        assert len(spaces) == len(loaders)
        assert None not in spaces
    assert sample("target-stairoids.json")["namespace"]


def parsed(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:  # a part of a file
        return {}
    return dict(found) if isinstance(found, dict) else {}


def test_meltano_yml_sends_no_usage_statistics() -> None:
    assert MELTANO["send_anonymous_usage_stats"] is False


def test_sample_configs_are_valid() -> None:
    tap = Draft202012Validator(about("tap-stairoids-webhooks")["settings"])

    assert errors_in(sample("target-stairoids.json")) == []
    assert list(tap.iter_errors(sample("tap-stairoids-webhooks.json"))) == []


def test_config_of_the_target_in_meltano_yml_is_valid() -> None:
    config = declared("target-stairoids")["config"]
    (environment,) = (e for e in MELTANO["environments"] if e["name"] == "sandbox")
    for loader in environment["config"]["plugins"]["loaders"]:
        config |= loader["config"]

    assert errors_in(config) == []


def test_meltano_yml_and_the_sample_map_the_trials_alike() -> None:
    signals = declared("target-stairoids")["config"]["signals"]

    assert signals == sample("target-stairoids.json")["signals"]
    assert declared("tap-jsonl")["config"] == sample("tap-jsonl.json")


def test_sample_mapping_fits_all_sample_records_but_one() -> None:
    lines = (ROOT / "sample_configs/trials.jsonl").read_text(encoding="utf-8")
    records = [json.loads(line) for line in lines.splitlines()]
    schema = StreamSchema(
        name="trials",
        properties={name: {} for name in records[0]},
        key_properties=("trial_id",),
    )

    settings = Settings.from_config(sample("target-stairoids.json"))
    (mapping,) = mappings_for(schema, settings.signals, "jsonl")

    signals = [mapping.signal_from(record) for record in records]
    reached = [s.account.get("domain") or s.contact.get("email") for s in signals]
    assert len(records) == 20
    assert reached.count(None) == 1
    assert signals[0].account["domain"] == "harborpine.example.com"


def test_configs_in_the_readme_are_valid() -> None:
    for text in blocks(page("README.md"), "json"):
        assert errors_in(json.loads(text)) == []


def test_meltano_examples_are_parts_of_meltano_yml() -> None:
    shown, *_ = blocks(page("start/meltano.md"), "yaml")
    for text in (shown, *blocks(page("README.md"), "yaml")):
        plugins = yaml.safe_load(text)["plugins"]
        for plugin in plugins.get("extractors", []) + plugins["loaders"]:
            assert_is_part_of_meltano_yml(plugin)


def editor_errors(config: object) -> list[str]:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(config)]


def test_schema_for_editors_accepts_the_configs_that_we_ship() -> None:
    shown = [json.loads(text) for text in blocks(page("README.md"), "json")]
    with_null = dict.fromkeys(config_schema()["properties"])

    for config in (sample("target-stairoids.json"), *shown, with_null):
        assert editor_errors(config) == []
    path = ROOT / "sample_configs" / sample("target-stairoids.json")["$schema"]
    assert path.resolve() == SCHEMA


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_ulr": "x"},
        {"dry_run": "ture"},
        {"first_run": "maybe"},
        {"signals": [{"stream": "a", "conact": {}}]},
        {"signals": [{"stream": "a", "contact": {"emial": "{{ x }}"}}]},
        {"signals": [{"stream": "a", "send": "sometimes"}]},
        {"signals": [{"type": "a"}]},
        {"stream_maps": {"a": {"__filter__": 1}}},
    ],
    ids=str,
)
def test_schema_for_editors_finds_mistakes(wrong: dict[str, Any]) -> None:
    assert editor_errors(wrong) != []
    assert errors_in(wrong) != [] or "stream_maps" in wrong


def test_schema_for_editors_describes_every_field() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    printed = CliRunner().invoke(COMMANDS["stairoids-signals"], ["schema"]).stdout

    assert json.loads(printed) == schema
    assert undescribed(schema) == []


def undescribed(schema: object) -> list[str]:
    """Return the names of the fields without a description, at any depth."""
    if isinstance(schema, list):
        return [name for part in schema for name in undescribed(part)]
    if not isinstance(schema, dict):
        return []
    fields = schema.get("properties", {})
    here = [name for name, spec in fields.items() if not spec.get("description")]
    parts = [*fields.values(), *(schema.get(k) for k in ("items", "anyOf", "oneOf"))]
    return [*here, *undescribed(parts)]


def test_stream_map_that_the_sdk_cannot_check_is_one_sentence() -> None:
    """The schema of the SDK has a bare type where a schema belongs."""
    config = {"api_key": "k", "stream_maps": {"__else__": "canary"}}

    (error,) = config_errors(config, TargetStairoids.full_schema())

    assert error == (
        "`stream_maps.__else__` has a form that is not allowed "
        "(allowed: __NULL__ or null)"
    )
