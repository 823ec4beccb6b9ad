"""docs/troubleshooting.md has each error and warning, in the programs' words.

`…` stands for a part of a message that differs.
"""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.support.paths import ROOT

PAGE = (ROOT / "docs/troubleshooting.md").read_text(encoding="utf-8")
CELLS = re.findall(r"^\| (?!message |reason |---)(.*?) \| ", PAGE, re.MULTILINE)
# A log line's fields follow its words in any order.
ROWS = [re.sub(r":? \w+=\S+", "", r) for cell in CELLS for r in cell.split("; …: ")]
ITEMS = re.findall(r"^\* `(.*?)`", PAGE, re.MULTILINE)
OF_OTHERS = {"422 and a text of Stairoids", "unknown", "…: no such file or directory"}
#: The first three are never shown. The others are parts of messages that have a row.
WITHOUT_ROW = {
    "A line holds more than one message.",
    "The ledger … was opened for reading only.",
    "module … has no attribute …",
    "…: …. See `ledger_url`.",
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


def test_each_documented_message_is_in_the_code() -> None:
    names = [path.name for path in ROOT.glob("*stairoids*/")]
    texts, _ = texts_in(*names)

    unknown = {row for row in ROWS if not any(fits(text, row) for text in texts)}
    assert unknown - OF_OTHERS == set()


def test_each_error_and_warning_is_documented() -> None:
    _, messages = texts_in("target_stairoids", "tap_stairoids_webhooks")

    known = {text for text in messages if any(fits(text, r) for r in ROWS + ITEMS)}
    assert messages - known - WITHOUT_ROW == set()
