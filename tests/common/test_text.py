"""Names and commands in sentences, as Markdown and a shell read them."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairoids_common.text import CODE, as_code, as_message, one_line, shell_command

COMMAND = "stairoids-signals ledger allow"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("trials", "`trials`"),
        ("my trials", "`my trials`"),
        ("a`b", "``a`b``"),
        ("a``b", "```a``b```"),
        ("`", "`` ` ``"),
        ("b`", "`` b` ``"),
    ],
)
def test_code_has_more_backticks_around_than_inside(text: str, code: str) -> None:
    assert as_code(text) == code


@given(st.lists(st.text("ab` \n", min_size=1), min_size=1))
def test_each_code_of_a_sentence_is_found(texts: list[str]) -> None:
    sentence = ", ".join(map(as_code, texts))

    found = [match["code"] for match in CODE.finditer(sentence)]

    assert [code.strip() for code in found] == [text.strip() for text in texts]


@pytest.mark.parametrize(
    ("names", "options", "command"),
    [
        (["trials"], [], f"{COMMAND} trials"),
        (["it's"], [], f"""{COMMAND} 'it'"'"'s'"""),
        (["-x"], [], f"{COMMAND} -- -x"),
        (["-x", "y"], ["--source", "a b"], f"{COMMAND} --source 'a b' -- -x y"),
        (["x"], ["--source", "a", "-b"], f"{COMMAND} x --source a -b"),
        ([], [], COMMAND),
    ],
)
def test_command_can_be_copied_into_a_shell(
    names: list[str], options: list[str], command: str
) -> None:
    assert shell_command(COMMAND, *names, options=options) == f"`{command}`"


@given(st.lists(st.text(min_size=1).filter(lambda text: "\0" not in text), min_size=1))
@pytest.mark.slow
def test_shell_reads_the_names_of_a_command(names: list[str]) -> None:
    (found,) = CODE.finditer(shell_command(COMMAND, *names))

    words = shlex.split(found["code"])[3:]

    assert [word for word in words if word != "--"] == [n for n in names if n != "--"]


def test_names_of_a_tap_stay_within_their_line() -> None:
    name = "a\nERROR b\t\x1b[31m\u202ec\u2028"

    assert one_line(name) == r"a\nERROR b\t\u001b[31m\u202ec\u2028"
    assert as_message(name) == "a\n    ERROR b\t\\u001b[31m\\u202ec\\u2028"
    assert as_message("`x` is wrong:\n  {{ x }}\n    ^") == (
        "`x` is wrong:\n  {{ x }}\n    ^"
    )
