"""docs/troubleshooting.md has the messages users meet, as the programs say them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.troubleshooting import (
    PACKAGES,
    all_texts,
    documented,
    has,
    messages_of,
    missing_in_page,
)

if TYPE_CHECKING:
    from pathlib import Path


#: Rows of the page about what is no text of ours.
OF_OTHERS = {
    "422 and a text of Stairoids",
    "unknown",
    "…: no such file or directory",  # the system's words
}
#: Exceptions that end in the program, and not before a user's eyes.
INTERNAL = ("MalformedBodyError", "NotRunningError")
#: What no row is for, and why.
NEVER_MET = {
    "A line holds more than one message.": "its reader goes on line by line",
    "The ledger … was opened to be read only.": "no caller writes then",
    "would send: …": "what a dry run is for",
    "too many deliveries are waiting for the store": "answered 503, not told",
    "the store … cannot count refusals: …": "told when a delivery meets it",
    "plan … is none of …": "for programs; the command has its own words",
    "success shape … is none of …": "the same",
    "a switch has no such choice": "for whoever makes up a form of the page",
}


MODULE = """
def f(path, error):
    msg = f"{path} is not there"
    raise OurError(msg) from error

def g(what):
    raise OurError(f"the store cannot be {what}: {len(what)}")

def h(number, wrong):
    g("opened")
    g(what="pruned")
    if wrong:
        text = "it is wrong"
    else:
        text = said(number)
    raise errors.OurError(text)

def said(number):
    return f"there are {number}" + " of these"

def k(error, problems):
    logger.warning("odd after %s: %d", error, 3)
    self.logger.log(level, Fact("it failed", code=1, rows=len(error), **more))
    logger.info("all is well here")
    logger.error("%s", error)
    click.echo(f"Error: {error} is bad news", err=True)
    click.echo("no error at all")
    problems.append("this must be a number")
    raise ValueError("not one of ours")
"""


def test_messages_are_found_however_they_are_made(tmp_path: Path) -> None:
    (tmp_path / "exceptions.py").write_text("class OurError(Exception): ...\n")
    (tmp_path / "module.py").write_text(MODULE)

    found = {message.text for message in messages_of(str(tmp_path))}

    assert found == {
        "… is not there",
        "the store cannot be opened: …",
        "the store cannot be pruned: …",
        "it is wrong",
        "there are … of these",
        "odd after …: …",
        "it failed: code=1 rows=… …",
        "… is bad news",
        "this must be a number",
    }


@pytest.mark.parametrize(
    ("text", "row", "is_it"),
    [
        ("the store … cannot be read: …", "cannot be read …", True),
        ("the store … cannot be read: …", "the store … cannot be made: …", False),
        ("cannot be read: the store …", "the store … cannot be read", False),
        ("since: …", "since: …", True),
        ("events since: …", "since: …", False),
    ],
)
def test_row_stands_for_messages_with_its_words_in_order(
    text: str, row: str, *, is_it: bool
) -> None:
    assert has(text, row) is is_it


@pytest.mark.parametrize(
    ("package", "row"),
    [(package, row) for package in PACKAGES for row in documented(package)],
)
def test_documented_message_is_one_of_ours(package: str, row: str) -> None:
    composed = [message.text for message in messages_of(package, internal=INTERNAL)]
    texts = [*all_texts(package), *all_texts("stairoids_common"), *composed]

    assert row in OF_OTHERS or any(has(text, row) for text in texts)


@pytest.mark.parametrize("package", PACKAGES)
def test_every_error_and_warning_has_a_row(package: str) -> None:
    messages = messages_of(package, internal=INTERNAL)
    met = [message for message in messages if message.text not in NEVER_MET]

    assert len(met) > 10
    assert missing_in_page(package, met) == []


def test_what_is_never_met_is_still_in_the_code() -> None:
    found = {m.text for p in PACKAGES for m in messages_of(p, internal=INTERNAL)}

    assert set(NEVER_MET) <= found
