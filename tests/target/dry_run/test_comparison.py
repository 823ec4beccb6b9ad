"""`preview --against` lists the signals that a new config changes."""

from __future__ import annotations

import json
import re
import subprocess
from html import unescape
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from markdown_it import MarkdownIt

from tests.support.commands import Done, command
from tests.support.documents import blocks, page
from tests.support.forks import programs
from tests.support.singer_io import a_record, a_schema, text_of

if TYPE_CHECKING:
    from pathlib import Path

CONTACT = {"email": "{{ email }}"}
OLD = {"stream": "trials", "type": "trial", "contact": CONTACT, "properties": ["plan"]}


class Configs:
    """Two configs and an output of a tap."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        records = [a_record(n, plan="pro" if n % 2 else "free") for n in range(1, 11)]
        text = text_of([a_schema(plan="string"), *records, records[0]])
        (folder / "messages.jsonl").write_text(text)

    def compare(
        self, old: list[dict[str, Any]], new: list[dict[str, Any]], *options: str
    ) -> Done:
        """Run the command with the mappings of two configs."""
        for name, items in (("old", old), ("new", new)):
            path = self.folder / f"{name}.json"
            path.write_text(json.dumps({"signals": items}))
        paths = [self.folder / f"{n}.json" for n in ("messages", "new", "old")]
        messages = self.folder / "messages.jsonl"
        return command(
            *("preview", messages, "--config", paths[1], "--against", paths[2]),
            *options,
        )

    def counts(
        self, old: list[dict[str, Any]], new: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the counts of the only stream."""
        done = self.compare(old, new, "--format", "json")
        assert done.returncode == 0, done.stderr
        (found,) = json.loads(done.stdout)["streams"].values()
        return dict(found)


@pytest.fixture
def configs(tmp_path: Path) -> Configs:
    return Configs(tmp_path)


@pytest.mark.parametrize(
    ("new", "counts", "fields", "reasons"),
    [
        ([OLD], (0, 0, 0, 10), {}, {}),
        ([{**OLD, "type": "signup"}], (0, 0, 10, 0), {"type": 10}, {}),
        (
            [{**OLD, "properties": [{"plan": "{{ plan | upper }}"}, "id"]}],
            (0, 0, 10, 0),
            {"properties.plan": 10, "properties.id": 10},
            {},
        ),
        (
            [{**OLD, "when": "{{ plan == 'pro' }}"}],
            (0, 5, 0, 5),
            {},
            {"filtered: by `when`": 5},
        ),
        ([OLD, {**OLD, "type": "second"}], (10, 0, 0, 10), {}, {}),
        ([{"stream": "trials", "type": None}], (0, 10, 0, 0), {}, None),
    ],
    ids=["same", "type", "properties", "when", "second mapping", "left out"],
)
def test_changes_are_counted_by_kind_and_field(
    configs: Configs,
    new: list[dict[str, Any]],
    counts: tuple[int, ...],
    fields: dict[str, int],
    reasons: dict[str, int] | None,
) -> None:
    found = configs.counts([OLD], new)

    assert tuple(found[n] for n in ("new", "gone", "changed", "same")) == counts
    assert found["fields"] == fields
    assert reasons is None or found["reasons"] == reasons


def test_swapped_configs_swap_new_and_gone(configs: Configs) -> None:
    found = configs.counts([{**OLD, "when": "{{ plan == 'pro' }}"}], [OLD])

    assert (found["new"], found["gone"]) == (5, 0)


def test_table_has_counts_fields_and_examples(configs: Configs) -> None:
    done = configs.compare([OLD], [{**OLD, "type": "signup"}], "--limit", "1")

    lines = [line.split() for line in done.stdout.splitlines() if line]
    assert ["trials", "0", "0", "10", "0"] in lines
    assert ["trials", "type", "10"] in lines
    assert ["trials", "changed", "type", '"trial"', '"signup"'] in lines
    assert lines[-1][:3] == ["Nothing", "was", "sent"]


def test_markdown_has_counts_and_no_values(configs: Configs) -> None:
    new = [{**OLD, "type": "signup", "when": "{{ plan == 'pro' }}"}]

    done = configs.compare([OLD], new, "--format", "markdown")

    assert "### Signals that change\n" in done.stdout
    assert (
        "| `trials` | 0 | 5 | 5 | 0 | `type` (5) | filtered: by `when` (5) |"
        in done.stdout
    )
    assert "example.com" not in done.stdout


@pytest.mark.parametrize(
    "name", ["a|b`c", "``d", "e```", "<b>f", "__g__", "*h*", "i\\|j"]
)
def test_names_are_code_in_markdown(configs: Configs, name: str) -> None:
    schema = a_schema(name, plan="string", **{name: "string"})
    two = [a_record(n, name, plan="pro", **{name: 1}) for n in range(2)]
    two[1]["record"]["plan"] = None
    (configs.folder / "messages.jsonl").write_text(text_of([schema, *two]))
    old = {**OLD, "stream": name, "properties": {"p": "{{ plan }}"}}

    properties = {"p": "{{ plan }}", name: "{{ 10 ** 999 if plan }}"}
    new = {**old, "properties": properties | {f"{name}.x": "1"}}
    done = configs.compare([old], [new], "--format", "markdown")

    shown = MarkdownIt("commonmark").enable("table").render(done.stdout)
    cells = [unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", shown)]
    assert cells == [
        f"<code>{name}</code>",
        *("0", "1", "1", "0"),
        f"<code>properties.{name}.x</code> (1)",
        f"invalid: properties.{name}: not a number that a double holds (1)",
    ]


def test_line_break_in_a_name_does_not_end_a_row_of_markdown(configs: Configs) -> None:
    new = {**OLD, "properties": [{"First\nname": "1"}, "plan"]}

    done = configs.compare([OLD], [new], "--format", "markdown")

    assert r"| `properties.First\nname` (10) |" in done.stdout


def test_boolean_in_place_of_a_number_is_a_change(configs: Configs) -> None:
    true, one = ({**OLD, "properties": {"is_pro": v}} for v in (True, 1))

    found = configs.counts([true], [one])

    assert (found["changed"], found["same"]) == (10, 0)


def test_gone_signal_has_the_reason_of_its_own_mapping(configs: Configs) -> None:
    second = {**OLD, "type": "second", "when": "{{ plan == 'none' }}"}
    invalid = {**OLD, "contact": {"email": "{{ plan }}"}}

    found = configs.counts([OLD, second], [invalid, second])

    assert found["gone"] == 10
    assert [reason[:8] for reason in found["reasons"]] == ["invalid:"]


def test_wrong_message_is_no_fault_of_the_other_config(configs: Configs) -> None:
    with (configs.folder / "messages.jsonl").open("a") as file:
        file.write("progress 10%\n")

    done = configs.compare([OLD], [OLD])

    assert done.returncode == 1
    assert done.stderr.startswith("Error: Line 13 of the input is not JSON.")


def test_comparison_reads_no_ledger_and_needs_no_key(configs: Configs) -> None:
    done = configs.compare([OLD], [OLD])

    assert done.returncode == 0
    assert not (configs.folder / ".stairoids").exists()


def test_wrong_config_is_named(configs: Configs) -> None:
    done = configs.compare([{"stream": "trials", "typ": "x"}], [OLD])
    markdown = command(
        *("preview", configs.folder / "messages.jsonl", "--format", "markdown"),
        *("--config", configs.folder / "new.json"),
    )

    assert done.returncode == 1
    assert "--against: " in done.stderr
    assert "did you mean `type`?" in done.stderr
    assert markdown.returncode == 2


@pytest.mark.slow
def test_workflow_on_the_page_prints_the_comment(configs: Configs) -> None:
    (text,) = (
        b
        for b in blocks(page("guides/change-a-mapping.md"), "yaml")
        if "pull_request" in b
    )
    workflow = yaml.safe_load(text)
    steps = [step.get("run", "") for step in workflow["jobs"]["compare"]["steps"]]
    (line,) = (step for step in steps if step.startswith("stairoids-signals"))
    configs.compare([OLD], [{**OLD, "type": "signup"}])
    (configs.folder / "new.json").rename(configs.folder / "config.json")

    subprocess.run(
        ["bash", "-c", f"PATH={programs()}:$PATH; {line}"],
        cwd=configs.folder,
        check=True,
    )

    assert "| 10 |" in (configs.folder / "comment.md").read_text()


def test_comparison_refuses_online(configs: Configs) -> None:
    done = configs.compare([OLD], [OLD], "--online")

    assert done.returncode == 2
    assert "--online is of no use with --against." in done.stderr
