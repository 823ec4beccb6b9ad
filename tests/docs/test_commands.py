"""The commands in documents and in --help exist, with these options."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click
import yaml
from click.testing import CliRunner

from benchmarks.__main__ import PATHS as BENCHMARKS
from stairoids_common.cli import CONTEXT_SETTINGS
from tests.support.documents import (
    RUN_ELSEWHERE,
    blocks,
    command_lines,
    page,
    page_names,
)
from tests.support.paths import ROOT
from tests.support.programs import COMMANDS, error_in

if TYPE_CHECKING:
    from collections.abc import Iterator

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
MELTANO = yaml.safe_load((ROOT / "meltano.yml").read_text(encoding="utf-8"))
#: Commands of others that the documents use.
OTHERS = {"meltano", "uv", "docker", "airbyte-venv/bin/python", "pip", "pipx"}
OTHERS |= {"tap-jsonl", "target-jsonl", "tap-postgres", "tap-x"}
OTHERS |= {"export", "cd", "jq", "echo", "kill", "printf", "uvicorn"}
OTHERS |= {"python", "touch", "rm", "tail", "grep", "sqlite3"}
EXIT_CODES = {
    "target-stairoids": [0, 1, 75, 128],
    "stairoids-signals": [0, 1, 2, 75],
    "tap-stairoids-webhooks": [0, 1, 2, 128],
    "tap-stairoids-signals": [0, 1, 2, 128],
    "stairoids-webhooks": [0, 1, 2],
}


def commands_in(command: click.Command, *words: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of a command and of its subcommands."""
    yield words
    if isinstance(command, click.Group):
        for name, subcommand in command.commands.items():
            yield from commands_in(subcommand, *words, name)


def test_each_command_prints_its_help_for_h() -> None:
    found = [w for name, c in COMMANDS.items() for w in commands_in(c, name)]

    assert len(found) > 40
    for words in found:
        done = CliRunner().invoke(COMMANDS[words[0]], [*words[1:], "-h"])
        assert (done.exit_code, done.stdout) == (0, help_of(*words)), words


def help_of(*words: str) -> str:
    return CliRunner().invoke(COMMANDS[words[0]], [*words[1:], "--help"]).stdout


def errors_in(line: str) -> Iterator[str | None]:
    """Yield the error of each command in a pipeline."""
    for part in line.split(" | "):
        inner = re.sub(r"^\(umask \d+ && (.*)\)$", r"\1", part)
        words = shlex.split(re.sub(r" (<|>>?) ?\S.*", "", inner).removesuffix(" &"))
        while words and re.match(r"\w+=", words[0]):
            words.pop(0)  # NAME=value in front
        match words:
            case ["make", *targets]:
                lacking = {t for t in targets if f"\n{t}: " not in MAKEFILE}
                yield f"no target {lacking}" if lacking else None
            case ["meltano", "invoke", plugin, *_] if ":" in plugin:
                name, _, command = plugin.partition(":")
                kinds = MELTANO["plugins"]["extractors"] + MELTANO["plugins"]["loaders"]
                (commands,) = (e["commands"] for e in kinds if e["name"] == name)
                yield None if command in commands else f"no command {plugin}"
            case ["python", "-m", "benchmarks", *paths]:
                lacking = set(paths) - set(BENCHMARKS)
                yield f"no benchmark {lacking}" if lacking else None
            case [name, *_] if name not in OTHERS:
                yield error_in(words)


def leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command without subcommands, and the words that call it."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from leaves(inner, f"{path} {name}")
    else:
        yield path, command


def examples_in(text: str, path: str) -> Iterator[list[str]]:
    """Yield the calls of a command in the examples of its help."""
    for line in re.sub(r"[|\\]\n", "| ", text).splitlines():
        for part in re.sub(r" [<>] .*", "", line).split("|"):
            if f" {path} " in f" {part.strip()} ":
                yield shlex.split(part[part.index(path) :])


def test_documented_commands_exist() -> None:
    lines = [line for name in page_names() for line in command_lines(page(name))]

    assert len(lines) > 100
    assert [(line, e) for line in lines for e in errors_in(line) if e] == []


def test_meltano_has_each_command_that_reads_a_config() -> None:
    (page_plugins, *_) = map(yaml.safe_load, blocks(page("start/meltano.md"), "yaml"))
    words = dict(leaves(COMMANDS["stairoids-signals"], "stairoids-signals"))

    for plugins in (MELTANO["plugins"], page_plugins["plugins"]):
        (target,) = (p for p in plugins["loaders"] if p["name"] == "target-stairoids")
        calls = [f"{c['executable']} {c['args']}" for c in target["commands"].values()]
        assert sorted(calls) == sorted(
            f"{path} --config ENV" for path in words if path.split()[-1] != "schema"
        )


def test_help_of_each_command_has_a_right_example() -> None:
    wrong = []
    for name, program in COMMANDS.items():
        for path, command in leaves(program, name):
            # Click keeps the help option of the first context.
            context = click.Context(
                command, help_option_names=CONTEXT_SETTINGS["help_option_names"]
            )
            text = command.get_help(context).partition("\n")[2]
            examples = list(examples_in(text, path))
            errors = [error for example in examples if (error := error_in(example))]
            if not examples or errors or "\b" in text or "\\b" in text:
                wrong.append((path, errors, text))

    assert wrong == []


def test_listings_of_commands_are_not_cut() -> None:
    for words in ([], ["dead-letters"], ["ledger"]):
        text = help_of("stairoids-signals", *words)
        listing = text.partition("Commands:\n")[2].partition("\n\n")[0]
        assert listing
        assert "..." not in listing


def test_help_of_a_program_has_its_exit_codes() -> None:
    for name, codes in EXIT_CODES.items():
        listed = help_of(name).partition("Exit codes:")[2]
        assert {str(code) for code in codes} <= set(re.findall(r"\d+", listed)), name


def test_make_help_lists_every_target() -> None:
    joined = MAKEFILE.replace("\\\n", " ")
    phony = re.findall(r"^\.PHONY: (.*)$", joined, re.MULTILINE)
    described = re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE)

    assert sorted(" ".join(phony).split()) == sorted(described)


def test_tests_of_pages_with_commands_name_their_page() -> None:
    for name, module in RUN_ELSEWHERE.items():
        assert blocks(page(name), "sh"), name
        assert name in (ROOT / "tests" / module).read_text(encoding="utf-8")
