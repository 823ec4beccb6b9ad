"""What we ship for people to read and copy says what the code does."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import yaml
from jsonschema import Draft202012Validator

from benchmarks.__main__ import PATHS as BENCHMARKS
from benchmarks.__main__ import RESULTS, headlines
from benchmarks.figures import as_markdown, read
from stairoids_airbyte.destination_command import main as destination_command
from stairoids_airbyte.source_command import main as source_command
from stairoids_common.config_errors import config_errors
from stairoids_sandbox.cli import main as sandbox_command
from tap_stairoids_webhooks.cli.main import main as webhooks_command
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from target_stairoids.cli.main import main as signals_command
from target_stairoids.mapping.config import mappings_for
from target_stairoids.mapping.schema import StreamSchema
from target_stairoids.settings import Settings, config_schema
from target_stairoids.target import TargetStairoids
from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
MELTANO = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
COMMANDS: dict[str, click.Command] = {
    "target-stairoids": TargetStairoids.cli,
    "tap-stairoids-webhooks": TapStairoidsWebhooks.cli,
    "stairoids-signals": signals_command,
    "stairoids-webhooks": webhooks_command,
    "stairoids-sandbox": sandbox_command,
    "destination-stairoids": destination_command,
    "source-stairoids-webhooks": source_command,
}
OURS = ["target-stairoids", "tap-stairoids-webhooks"]


@cache
def about(plugin: str) -> dict[str, Any]:
    command = [str(BIN / plugin), "--about", "--format=json"]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    return dict(json.loads(printed))


def sample(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "sample_configs" / name).read_text()))


def declared(plugin: str) -> dict[str, Any]:
    kinds = MELTANO["plugins"]["extractors"] + MELTANO["plugins"]["loaders"]
    (found,) = (entry for entry in kinds if entry["name"] == plugin)
    return dict(found)


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def code_lines(text: str = README) -> list[str]:
    joined = "".join(blocks("sh", text)).replace("\\\n", " ").replace("|\n", "| ")
    return [line for line in joined.splitlines() if line and line[0] != "#"]


def everywhere() -> list[str]:
    """Return the command lines of all documents."""
    documents = sorted((ROOT / "docs").glob("*.md"))
    pages = [README, *(page.read_text() for page in documents)]
    return list(dict.fromkeys(line for page in pages for line in code_lines(page)))


# Settings


def test_readme_and_meltano_list_the_settings_as_they_are() -> None:
    command = [sys.executable, str(ROOT / "docs/settings.py"), "--check"]

    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("plugin", OURS)
def test_meltano_declares_what_about_prints(plugin: str) -> None:
    settings = {item["name"]: item for item in declared(plugin)["settings"]}
    printed = about(plugin)["settings"]["properties"]

    assert list(settings) == list(printed)
    for name, spec in printed.items():
        types = set(spec["type"] if isinstance(spec["type"], list) else [spec["type"]])
        choices = [option["value"] for option in settings[name].get("options", ())]
        kind = "string" if choices else settings[name]["kind"]
        assert types - {"null"} == {kind}, name
        assert choices == spec.get("enum", []), name
        assert settings[name].get("value") == spec.get("default"), name
        assert settings[name].get("sensitive", False) == spec.get("secret", False), name


@pytest.mark.parametrize("plugin", OURS)
def test_meltano_declares_the_capabilities_about_prints(plugin: str) -> None:
    assert sorted(declared(plugin)["capabilities"]) == sorted(
        about(plugin)["capabilities"]
    )


@pytest.mark.parametrize("plugin", OURS)
def test_meltano_requires_what_the_code_requires(plugin: str) -> None:
    required = about(plugin)["settings"].get("required", [])

    groups = declared(plugin).get("settings_group_validation", [[]])

    assert groups == [required]


@pytest.mark.parametrize("plugin", OURS)
def test_meltanos_commands_exist(plugin: str) -> None:
    for command in declared(plugin)["commands"].values():
        assert_is_typed_right([command["executable"], *shlex.split(command["args"])])


def test_meltano_reports_nothing_to_anybody() -> None:
    assert MELTANO["send_anonymous_usage_stats"] is False


# Configs


def test_sample_config_of_the_target_is_valid() -> None:
    assert config_errors(sample("target-stairoids.json"), config_schema()) == []


def test_sample_config_of_the_tap_is_valid() -> None:
    validator = Draft202012Validator(about("tap-stairoids-webhooks")["settings"])

    assert list(validator.iter_errors(sample("tap-stairoids-webhooks.json"))) == []


def test_meltanos_config_of_the_target_is_valid() -> None:
    config = declared("target-stairoids")["config"]
    (environment,) = (e for e in MELTANO["environments"] if e["name"] == "sandbox")
    for loader in environment["config"]["plugins"]["loaders"]:
        config |= loader["config"]

    assert config_errors(config, config_schema()) == []


def test_meltano_and_the_sample_map_the_trials_alike() -> None:
    signals = declared("target-stairoids")["config"]["signals"]

    assert signals == sample("target-stairoids.json")["signals"]
    assert declared("tap-jsonl")["config"] == sample("tap-jsonl.json")


def test_sample_mapping_fits_the_sample_data() -> None:
    """It compiles against the columns of the data, and all but one row can be sent."""
    lines = (ROOT / "sample_configs/trials.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in lines.splitlines()]
    shape = StreamSchema(
        name="trials",
        properties={name: {} for name in rows[0]},
        key_properties=("trial_id",),
    )

    (mapping,) = mappings_for(
        shape, Settings.from_config(sample("target-stairoids.json")).signals, "jsonl"
    )

    signals = [mapping.signal_from(row) for row in rows]
    whom = [s.account.get("domain") or s.contact.get("email") for s in signals]
    assert len(rows) == 20
    assert whom.count(None) == 1
    assert signals[0].account["domain"] == "harborpine.example.com"


@pytest.mark.parametrize("text", blocks("json"))
def test_readmes_configs_are_valid(text: str) -> None:
    config = json.loads(text)

    assert config_errors(config, config_schema()) == []


@pytest.mark.parametrize("text", blocks("yaml"))
def test_readmes_meltano_example_says_what_meltano_yml_says(text: str) -> None:
    (loader,) = yaml.safe_load(text)["plugins"]["loaders"]

    full = declared(loader["name"])
    of_meltano = {item["name"]: item for item in full["settings"]}
    assert loader["namespace"] == full["namespace"]
    for setting in loader["settings"]:
        assert setting.items() <= of_meltano[setting["name"]].items()
    assert config_errors({"api_key": "k", **loader["config"]}, config_schema()) == []


def test_meltano_page_declares_what_meltano_yml_declares() -> None:
    text, *_ = blocks("yaml", (ROOT / "docs/meltano.md").read_text(encoding="utf-8"))
    shown = yaml.safe_load(text)["plugins"]

    for plugin in shown["extractors"] + shown["loaders"]:
        full = declared(plugin["name"])
        of_meltano = {item["name"]: item for item in full["settings"]}
        assert set(plugin.get("capabilities", ())) <= set(full.get("capabilities", ()))
        for setting in plugin["settings"]:
            assert setting.items() <= of_meltano[setting["name"]].items()
        for name, command in plugin.get("commands", {}).items():
            assert command.items() <= full["commands"][name].items()
        if plugin["name"] == "target-stairoids":
            config = {"api_key": "k", **plugin["config"]}
            assert config_errors(config, config_schema()) == []


# Commands


def assert_is_typed_right(words: list[str]) -> None:
    """Parse a command line as the command would, without running it."""
    name, *arguments = words
    command = COMMANDS[name]
    context = command.make_context(name, [], resilient_parsing=True)
    while isinstance(command, click.Group) and arguments:
        subcommand = command.get_command(context, arguments[0])
        assert subcommand is not None, f"{name} {arguments[0]} does not exist"
        command, arguments = subcommand, arguments[1:]
    taken = command.make_parser(context).parse_args(list(arguments))
    assert taken[1] == [] or any(
        isinstance(parameter, click.Argument) for parameter in command.params
    )


#: Commands of others that the documents use.
OTHERS = {"meltano", "uv", "docker", "airbyte-venv/bin/python"}
OTHERS |= {"tap-jsonl", "target-jsonl", "tap-postgres", "tap-x"}


@pytest.mark.parametrize("line", everywhere())
def test_documented_commands_exist(line: str) -> None:
    """Each part of a pipeline is a make target, or a command with these options."""
    for part in line.split(" | "):
        inner = re.sub(r"^\(umask \d+ && (.*)\)$", r"\1", part)
        words = shlex.split(re.sub(r" (<|>>?) .*", "", inner))  # files come and go
        while words and ("=" in words[0] and not words[0].startswith("-")):
            words.pop(0)  # NAME=value in front
        match words:
            case ["make", *targets]:
                makefile = (ROOT / "Makefile").read_text()
                for target in targets:
                    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
            case ["pip" | "pipx", "install", *_] | []:
                pass
            case ["export" | "cd" | "jq" | "kill" | "printf", *_]:
                pass
            case ["meltano", "invoke", plugin, *_] if ":" in plugin:
                name, _, command = plugin.partition(":")
                assert command in declared(name)["commands"]
            case [name, *_] if name in OTHERS:
                pass
            case ["python", "-m", "benchmarks", *paths]:
                assert set(paths) <= set(BENCHMARKS)
            case _:
                assert_is_typed_right([word for word in words if word != "&"])


#: Which test runs a page's commands. CONTRIBUTING.md has those of `make` alone, and
#: performance.md what is half an hour of measuring.
RUN_BY = {
    "airbyte.md": "airbyte/test_pyairbyte.py",
    "delivery.md": "docs/test_docs_run.py",
    "mapping.md": "docs/test_docs_run.py",
    "meltano.md": "docs/test_meltano_page.py",
    "operations.md": "docs/test_docs_run.py",
    "receiver.md": "docs/test_docs_run.py",
}


def test_every_page_with_commands_is_run_by_a_test() -> None:
    fence = re.compile(r"^ *```sh$", re.MULTILINE)
    pages = (ROOT / "docs").glob("*.md")
    with_commands = {page.name for page in pages if fence.search(page.read_text())}

    assert with_commands - {"performance.md"} == set(RUN_BY)
    for page, module in RUN_BY.items():
        assert page in (ROOT / "tests" / module).read_text()


def test_readmes_sample_files_exist() -> None:
    sampled = re.findall(r"\bsample_configs/[\w./-]+", "\n".join(code_lines()))

    assert {path for path in sampled if not (ROOT / path).exists()} == set()


@pytest.mark.parametrize("page", [ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
def test_links_lead_somewhere(page: Path) -> None:
    linked = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())

    assert {path for path in linked if not (page.parent / path).exists()} == set()


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with all the words it is called by."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


LEAVES = [leaf for name, command in COMMANDS.items() for leaf in leaves(command, name)]


@pytest.mark.parametrize(("path", "command"), LEAVES, ids=[path for path, _ in LEAVES])
def test_help_teaches_by_an_example_that_is_right(
    path: str, command: click.Command
) -> None:
    _usage, _, text = command.get_help(click.Context(command)).partition("\n")
    joined = re.sub(r"[|\\]\n", "| ", text)

    examples = [
        part[part.index(path) :].strip()
        for line in joined.splitlines()
        for part in re.sub(r" [<>] .*", "", line).split("|")
        if f" {path} " in f" {part.strip()} "
    ]

    assert examples
    assert "\b" not in text
    assert "\\b" not in text
    for example in examples:
        assert_is_typed_right(shlex.split(example))


@pytest.mark.parametrize("words", [[], ["dead-letters"], ["ledger"]], ids=" ".join)
def test_listings_of_commands_cut_nothing_off(words: list[str]) -> None:
    command = [str(BIN / "stairoids-signals"), *words, "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    listing = done.stdout.partition("Commands:\n")[2].partition("\n\n")[0]
    assert listing
    assert "..." not in listing


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("target-stairoids", [0, 1, 75, 128]),
        ("stairoids-signals", [0, 1, 2, 75]),
        ("tap-stairoids-webhooks", [0, 1, 2, 128]),
        ("stairoids-webhooks", [0, 1, 2]),
    ],
)
def test_help_of_a_program_has_its_exit_codes(name: str, codes: list[int]) -> None:
    command = [str(BIN / name), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)

    told = " ".join(done.stdout.partition("Exit codes: ")[2].split())
    assert [code for code in codes if not re.search(rf"(^|; ){code} ", told)] == []


# Operations


def test_operations_examples_are_well_formed() -> None:
    page = (ROOT / "docs/operations.md").read_text()

    for text in blocks("python", page):
        compile(text, "operations.md", "exec")
    for text in blocks("yaml", page):
        assert yaml.safe_load(text)
    for text in blocks("bash", page):
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)


# Figures


def test_documents_show_the_figures_that_were_kept() -> None:
    kept = read(RESULTS)

    assert as_markdown(kept) in (ROOT / "docs/performance.md").read_text()
    assert as_markdown(headlines(kept)) in (ROOT / "README.md").read_text()


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## ", makefile, re.MULTILINE)

    assert sorted(" ".join(phony).split()) == sorted(described)
