"""Foreign text is shown short, with invisible characters written out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stairoids_common.text import visible
from stairoids_pages.templating import coded, folded, shown, size_of


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("\u202eevil", "\\u202eevil"),
        ("a\x00b\x1b[31m", "a\\u0000b\\u001b[31m"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\u2066isolate\u2069", "\\u2066isolate\\u2069"),
        ("line\n\tend", "line\n\tend"),
        ("👩\u200d💻 שלום", "👩\u200d💻 שלום"),
        ("\ud800", "\\ud800"),
    ],
)
def test_invisible_characters_are_written_out(text: str, seen: str) -> None:
    assert visible(text) == seen


@given(st.text() | st.text(st.characters(categories=["Cs", "Cc", "Cf"])))
def test_shown_text_is_short_and_can_be_encoded(text: str) -> None:
    assert len(shown(text, 20).encode()) < 400


def test_long_text_is_cut_and_counted() -> None:
    assert shown("x" * 1_000_000, 3) == "xxx… (1,000,000 characters)"
    assert shown("xxx", 3) == "xxx"


@pytest.mark.parametrize(
    ("body", "seen"),
    [
        (b'{"a":1.10,"b":[]}', '{\n  "a": 1.10,\n  "b": []\n}'),
        (b'{"big":12345678901234567890123}', '{\n  "big": 12345678901234567890123\n}'),
        (b"{not json", "{not json"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 50_000, "[" * 50_000),
        (b"", ""),
    ],
)
def test_json_is_indented_and_other_bodies_are_not(body: bytes, seen: str) -> None:
    assert folded(body).unescape().rstrip("\n") == seen


def test_long_body_is_cut_and_counted() -> None:
    assert folded(b"x" * 2_000_000, 4) == "xxxx… (2,000,000 bytes)"


def test_large_json_is_shown_as_it_is() -> None:
    """Its indentation would delay the webhooks that arrive meanwhile."""
    body = b"[" + b"1," * 40_000 + b"1]"

    assert folded(body, 4) == "[1,1… (80,003 bytes)"


def test_json_has_a_fold_for_each_inner_object_and_list() -> None:
    assert folded(b'{"a":{"b":["<i>"],"c":[]}}') == (
        "{\n"
        "<details open><summary>  &#34;a&#34;: {</summary>"
        "<details open><summary>    &#34;b&#34;: [</summary>"
        "      &#34;&lt;i&gt;&#34;\n</details>    ],\n"
        "    &#34;c&#34;: []\n</details>  }\n"
        "}\n"
    )
    assert folded(b"<p>{\n") == "&lt;p&gt;{\n"


@pytest.mark.parametrize("length", [3_000, 65_536])
def test_inner_folds_of_a_long_body_are_closed(length: int) -> None:
    html = folded(b'{"rows":[' + b",".join([b'{"n":[1,2]}'] * 90) + b"]}", length)

    assert html.count("<details open>") == 1
    assert html.count("<details>") > 5
    assert html.count("<details") == html.count("</details>")


@pytest.mark.parametrize(
    "body", [b"[" * 30_000 + b"]" * 30_000, b"[" + b"[1]," * 16_000 + b"1]"]
)
def test_fold_of_a_hostile_body_is_small(body: bytes) -> None:
    assert len(folded(body)) < 200_000


def test_text_between_backticks_is_code() -> None:
    assert coded("Set `a<b`, or ` c.") == "Set <code>a&lt;b</code>, or ` c."
    assert coded("Run ``allow 'a`b'``.") == "Run <code>allow &#39;a`b&#39;</code>."


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_400, "1.4 kB"),
        (999_950, "1.0 MB"),
        (3_000_000, "3.0 MB"),
        (7 * 10**12, "7.0 TB"),
        (7 * 10**16, "70,000.0 TB"),
    ],
)
def test_sizes_have_readable_units(number: int, text: str) -> None:
    assert size_of(number) == text
