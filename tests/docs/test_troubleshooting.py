"""docs/troubleshooting.md has each error and warning, in the programs' words.

`…` stands for a part of a message that differs.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
from functools import cache

import pytest

from docs.error_ids import numbered
from stairoids_common.error_ids import with_id
from tests.support.forks import forked
from tests.support.paths import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^\| <a id=.*?>E\d+ \| (.*?) \| ", PAGE, re.MULTILINE)
# A log line's fields follow its words in any order.
IDS = dict(re.findall(r'^\| <a id="(e\d+)"></a>(E\d+) \|', PAGE, re.MULTILINE))
ROWS = [re.sub(r":? \w+=\S+", "", r) for cell in CELLS for r in cell.split("; …: ")]
ITEMS = re.findall(r"^\* `(.*?)`", PAGE, re.MULTILINE)
OF_OTHERS = {
    "422 and a text of Stairoids",
    "A record for stream '…' was encountered before a corresponding schema.",
    "unknown",
    "…: no such file or directory",
}
#: The first three are never shown. The others are parts of messages that have a row.
WITHOUT_ROW = {
    "A line holds more than one message.",
    "The ledger … was opened for reading only.",
    "module … has no attribute …",
    "a key that occurs twice",
    "a number that is too long",
    "half of a surrogate pair",
    "not UTF-8",
    "occurred_at: not a time from … to …, so it is a placeholder",
    "not a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
}


def texts_in(*packages: str) -> tuple[set[str], set[str]]:
    """Return the texts in some packages, and those that are errors and warnings."""
    texts, messages = set(), set()
    for path in (path for name in packages for path in (ROOT / name).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            texts.add(text_of(node))
            match node:
                case (
                    ast.Assign(targets=[ast.Name("msg")], value=message)
                    | ast.Raise(ast.Call(args=[message, *_]))
                    | ast.Call(
                        ast.Attribute(attr="warning" | "error" | "exception"),
                        [message, *_],
                    )
                ):
                    messages.add(text_of(message))
    return texts, {text for text in messages if parsed(text)[1] > 1}


def text_of(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return re.sub(r"%(?:\.\d+)?[a-z]", "…", text)
        case ast.JoinedStr(values=values):
            return "".join(text_of(value) or "…" for value in values)
    return ""


@cache
def parsed(text: str) -> tuple[re.Pattern[str], int]:
    """Return a pattern for a text, and the number of its words."""
    pieces = (piece.strip(" `,.:") for piece in text.replace("\\|", "|").split("…"))
    pattern = re.compile(".*".join(map(re.escape, filter(None, pieces))))
    return pattern, len(re.findall(r"[A-Za-z]{2,}", text))


def fits(text: str, row: str) -> bool:
    """Return whether a text of the code has a row's words, or half of them."""
    (whole, of_row), (part, of_text) = parsed(row), parsed(text)
    is_half = of_row <= 2 * of_text > 2
    return bool(whole.search(text) or (is_half and part.search(row)))


@pytest.mark.slow
def test_each_documented_message_is_in_the_code() -> None:
    names = [path.name for path in ROOT.glob("*stairoids*/")]
    texts, _ = texts_in(*names)

    unknown = {row for row in ROWS if not any(fits(text, row) for text in texts)}
    assert unknown - OF_OTHERS == set()


@pytest.mark.slow
def test_each_error_and_warning_is_documented() -> None:
    _, messages = texts_in("target_stairoids", "tap_stairoids_webhooks")

    known = {text for text in messages if any(fits(text, r) for r in ROWS + ITEMS)}
    assert messages - known - WITHOUT_ROW == set()


def test_each_message_has_an_id_and_an_anchor_of_its_own() -> None:
    assert len(IDS) == len(set(IDS.values())) == len(CELLS)
    assert [a for a, i in IDS.items() if a != i.lower()] == []


def test_each_documented_message_is_printed_with_an_id_of_the_page() -> None:
    messages = json.loads((ROOT / "stairoids_common/error_ids.json").read_text("utf-8"))

    printed = {text: with_id(text.replace("…", "x")) for text in messages}
    assert [t for t, p in printed.items() if not re.search(r" \[E\d+\]$", p)] == []
    assert set(messages.values()) <= set(IDS.values())


def test_most_specific_message_gives_the_id_of_each_line() -> None:
    found = with_id("config.json: no such file\nsomething else\nno such file or folder")

    assert re.fullmatch(
        r"config.json: no such file \[E\d+\]\n    something else\n"
        r"    no such file or folder.*",
        found,
    )


@pytest.mark.parametrize(
    "other",
    [
        "The catalog names tables that do not exist: x.",
        "Stream `a`: b names c.",
        "It did not store 5 deliveries: x",
        "This form cannot be read.",
        "The file is not JSON.",
    ],
)
def test_similar_message_gets_no_id(other: str) -> None:
    assert with_id(other) == other


@pytest.mark.parametrize(
    "line",
    [
        "config.json: `a` is required",
        "`x` is wrong; `a` is required",
        "`x` is wrong.\n`a` is required",
        "config.json cannot be read: Is a directory",
        "Invalid value for '--before': less than 7 days.",
        "`ledger_url` names `$HOME`, and no variable is read in a path.",
        "`store_url` names the folder of an unknown user (`~`).",
        "`since` is not a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
        "The ledger x cannot be read: disk I/O error",
        "A record for stream 'x' was encountered before a corresponding schema. Check",
    ],
)
def test_message_within_a_line_gives_its_id(line: str) -> None:
    assert re.search(r" \[E\d+\]$", with_id(line))


def test_message_of_few_words_is_refused() -> None:
    row = "| message | cause | remedy |\n| --- | --- | --- |\n| `…` names …. | a | b |"

    with pytest.raises(LookupError, match="Add words to the message"):
        numbered(row)


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("target-stairoids", ["--config", "none.json"]),
        ("tap-stairoids-webhooks", ["--config", "none.json"]),
        ("stairoids-signals", ["find"]),
        ("stairoids-webhooks", ["prune", "--older-than", "9d"]),
        ("stairoids-webhooks", ["stats", "--store-url", "sqlite:///none.db"]),
        ("stairoids-sandbox", ["serve", "--fault", "none"]),
    ],
)
def test_printed_error_ends_with_its_id(program: str, words: list[str]) -> None:
    done = subprocess.run(
        forked([program, *words]),
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )

    assert done.returncode in {1, 2}
    (shown,) = re.findall(r" \[(E\d+)\]\n$", done.stderr)
    assert shown in IDS.values()
