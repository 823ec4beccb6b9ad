"""The check of the language: its rules find bad examples and leave good ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from docs.check_language import files, main, problems_of, score_of

PRODUCT = Path("target_stairoids/example.py")
TEST = Path("tests/target/test_example.py")
GUIDE = Path("docs/guides/a.md")
PAGE = Path("stairoids_pages/templates/example.html")
FIFTEEN = " ".join(["word"] * 15)
TWENTY_SIX = " ".join(["word"] * 26)

BAD = [
    # path, source, the line of the problem and its rule
    (PRODUCT, '"""The verdict on a record."""', 1, 'never "verdict"'),
    (PRODUCT, "x = 1\n# Mended by hand.\n", 2, 'never "Mended"'),
    (PRODUCT, "def read():\n    '''Read the letters.'''", 2, 'never "letters"'),
    (PRODUCT, "log('a letter of %s', key)", 1, 'never "letter"'),
    (PRODUCT, "log(f'{key}: the letter is lost')", 1, 'never "letter"'),
    (PRODUCT, "last_candidates = []", 1, 'never "candidates"'),
    (PRODUCT, "class RulingCache:\n    pass", 1, 'never "Ruling"'),
    (PRODUCT, "def read(letter):\n    pass", 1, 'never "letter"'),
    (PRODUCT, "self.watermark = 1", 1, 'never "watermark"'),
    (Path("target_stairoids/surge.py"), "x = 1", 1, 'never "surge"'),
    (PRODUCT, '"""A file.\n\nWhat is not read stays.\n"""', 3, "headless clause"),
    (PRODUCT, "x = 1  # for whoever reads stdout", 1, "headless clause"),
    (PRODUCT, "raise Stop('nobody reads it')", 1, "headless clause"),
    (PRODUCT, "'''Who reads the store.'''", 1, "headless clause"),
    (TEST, "def test_empty_state_is_what_it_is(): ...", 1, "headless clause"),
    (PRODUCT, f'"""{TWENTY_SIX}."""', 1, "26 words in a sentence"),
    (PRODUCT, f"x = 1\n# {TWENTY_SIX[:60]}\n# {TWENTY_SIX[60:]}", 2, "26 words"),
    (
        PRODUCT,
        f"raise Stop('Stopped. The {FIFTEEN} {FIFTEEN[:49]}.')",
        1,
        "26 words in a sentence",
    ),
    (GUIDE, "# What is here\n\n| a | whoever reads |\n", 3, "headless clause"),
    (GUIDE, f"One.\n\nTwo [a](b.md) {TWENTY_SIX}.", 3, "28 words in a sentence"),
    (PAGE, "<p>One.\n<p>{{ a }} for <b>nobody</b>", 2, "headless clause"),
]

GOOD = [
    (PRODUCT, '"""Recommend amendments to dead letters, in lower-case letters."""'),
    (PRODUCT, "dead_letter_ids = DeadLetters.read(allow_surge=True)"),
    (PRODUCT, '"""What is a signal? It is sent."""'),
    (PRODUCT, '"""Read `what` and ``nobody``."""'),
    (PRODUCT, "from elsewhere import candidates"),
    (PRODUCT, "what = {'letter': 1, 'whoever': 2}"),
    (PRODUCT, f'"""{FIFTEEN}. {FIFTEEN.title()}."""'),
    (PRODUCT, f'"""Read.\n\n{FIFTEEN}:\n* {FIFTEEN}\n* {FIFTEEN}"""'),
    (PRODUCT, f'"""See http://a.example/b. {FIFTEEN.title()}. `c` {FIFTEEN}."""'),
    (PRODUCT, f'"""{FIFTEEN.title()}\n\na   {FIFTEEN}\nb   {FIFTEEN}\n"""'),
    (TEST, f"TEXT = '{TWENTY_SIX}'"),
    (TEST, "def test_empty_state_is_not_emitted(): ..."),
    (GUIDE, "```sh\nwhat\n```\n\n`A`, [b](nobody.md) <!-- what -->\n"),
    (PAGE, "<script>let what;</script><p title='x'>One {{ letter }}."),
]


@pytest.mark.parametrize(("path", "source", "line", "rule"), BAD)
def test_bad_example_is_found(path: Path, source: str, line: int, rule: str) -> None:
    (problem,) = problems_of(path, source)

    assert problem.line == line
    assert problem.rule.startswith(rule)


@pytest.mark.parametrize(("path", "source"), GOOD)
def test_good_example_is_left(path: Path, source: str) -> None:
    assert problems_of(path, source) == []


def test_score_counts_headless_clauses_of_docstrings() -> None:
    source = '"""What is sent to nobody."""\n# Whatever else.'

    assert score_of(PRODUCT, source) == {"words": 5, "headless": 2}


def test_command_names_file_and_line_and_exits_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "example.py"
    path.write_text("x = 1\n# Written anew.\n", encoding="utf-8")

    assert main([str(path)]) == 1
    assert capsys.readouterr().out == f'{path}:2: never "anew": Written anew.\n'


def test_command_reads_the_files_of_the_repository() -> None:
    found = files(["docs", "stairoids_pages"])

    assert Path("docs/check_language.py") in found
    assert Path("stairoids_pages/templates/base.html") in found
