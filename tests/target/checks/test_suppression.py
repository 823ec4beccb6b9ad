"""Suppressed people and companies get no signal: lists in the config."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from target_stairoids.checks.suppression import SuppressionList
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.signal import names_of
from tests.support.commands import signals
from tests.support.singer_io import TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Run


def hides(entry: str) -> bool:
    """Return whether an entry hides Ann, of `eu.acme.com`, at company.example."""
    names = names_of({"domain": "company.example"}, {"email": "Ann@eu.acme.com"})
    return SuppressionList([("Line 1", entry)]).hides(names)


@pytest.mark.parametrize(
    ("entry", "is_suppressed"),
    [
        ("acme.com", True),
        ("eu.acme.com", True),
        ("www.acme.com", True),
        ("mail.acme.com", True),
        ("me.com", False),
        ("ANN@eu.Acme.com", True),
        ("bob@eu.acme.com", False),
        ("ann@acme.com", False),
        ("*@*.acme.*", True),
        ("ann@*", True),
        ("eu.acme.*", True),
        ("acme.*", True),
        ("company*", True),
        ("birch*", False),
        ("a[mn]n@eu.acme.com", True),
        ("a??@eu.acme.com", True),
        ("company.example", True),
        ("other.example", False),
        # Spellings of exports and of people.
        ('"ann@eu.acme.com"', True),
        ("'acme.com'", True),
        ("ann@eu.acme.com,unsubscribed,2026-01-01", True),
        ('"ann@eu.acme.com";"unsubscribed"', True),
        ("ann@eu.acme.com\tunsubscribed", True),
        ("ann@eu.acme.com,acme.org", True),
        ("mailto:ann@eu.acme.com?subject=x", True),
        ("Ann Lee <ann@eu.acme.com>", True),
        ('"Lee, Ann" <ann@eu.acme.com>', True),
        ("<ann@eu.acme.com>", True),
        ("@acme.com", True),
        ("@eu.acme.com,", True),
        ("https://acme.com/", True),
        ("http://www.acme.com/about?x=1", True),
        ("https://www.acme.com/,left us", True),
        ("acme.com.", True),
        ("\ufeffacme.com", True),
        ("1,ann@eu.acme.com", True),
        ("Lee; Ann; ann@eu.acme.com", True),
        ("1,Ann,,ann@eu.acme.com,acme.org", True),
        ("1,Acme,https://www.acme.com", True),
        ("J.Lee,linkedin.com/in/ann,ann@eu.acme.com", True),
        ("Acme*,*@eu.acme.com", True),
        ("Ann*,bob@eu.acme.com", False),
        ("eu.acme.x*z", False),
        ("ann@eu.acme.c[ox]m", True),
        ("ann@eu.acme.com\u200b", True),
    ],
)
def test_suppression_matches_email_and_domains(
    entry: str, *, is_suppressed: bool
) -> None:
    assert hides(entry) is is_suppressed


@pytest.mark.parametrize(
    "entry",
    [
        "ann",
        "unsubscribed",
        "ann@",
        # No signal can have an address under an unknown top level.
        "ann@acme.con",
        "acme.local",
        "1,ann@acme.con",
        "*@acme.internal",
        "Acme,unsubscribed",
        "1,acme.com,ann@birch.com",
        "1,ann@acme.com,bob@acme.com",
        "ann@localhost",
        "a@b..com",
        "Ann ann@acme.com",
        "ann@acme.com, bob@acme.com",
        "ann@acme.com;bob@acme.com",
        "acme.com, birch.com",
        "acme.com,ann@birch.com",
        "*@birch.com;*@acme.com",
        "*,*,*,*,*,*",
        "ann@acme.com,*@birch.com",
        "https://www.linkedin.com/in/ann",
        "facebook.com/acme",
        "https://*.acme.com/",
        "[abc]",
        "ann lee*@acme.com",
        "*.münchen.de",
        "?",
        "email",
        "-",
    ],
)
def test_entry_without_a_possible_match_is_refused_by_its_place(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^Line 1 ") as refused:
        hides(entry)

    assert entry not in str(refused.value).removeprefix("Line 1 ").split(". Write")[0]


@pytest.mark.parametrize(
    "entry",
    [
        *("!ann@acme.com", "-ann@acme.com", "+ann@acme.com", "^ann@acme.com"),
        *("- ann@acme.com", "! acme.com", "-acme.com", "-*@acme.com", "!*@acme.com"),
        *("#ann@acme.com", "// ann@acme.com", "//acme.com", "; ann@acme.com"),
        *("1,-ann@acme.com", "-ann@acme.com,acme.com", "- ann@acme.com,acme.com"),
        "\u2022 ann@acme.com,acme.com",
    ],
)
def test_entry_behind_a_mark_is_refused_by_its_place(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^Line 1 begins with a mark"):
        hides(entry)


@pytest.mark.parametrize(
    "entry",
    [
        "> ann@eu.acme.com",
        ";;ann@eu.acme.com",
        "ann@eu.acme.com,- left",
        "[!b]nn@eu.acme.com",
        "[a]nn@eu.acme.com",
        "1;-;acme.com",
        "-;ann@eu.acme.com",
    ],
)
def test_entry_beside_a_mark_that_changes_no_meaning_counts(entry: str) -> None:
    assert hides(entry)


def test_suppressed_person_gets_no_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    records = [a_record(1), a_record(2)]

    run = target.run(a_schema(), *records, suppress=["u1@example.com"])

    assert run.outcomes == {"accepted": 1, "filtered": 1}
    assert [s.body["contact"]["email"] for s in sandbox.signals] == ["u2@example.com"]


def with_list(target: TargetUnderTest, text: str | bytes) -> Run:
    """Run over the records of Ann, Bob and Carl with a suppression file."""
    path = target.folder / "never.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    emails = ["ann@birch.com", "Bob@Oak.example", "carl@elm.example"]
    records = [a_record(n, email=email) for n, email in enumerate(emails)]
    return target.run(a_schema(), *records, suppress_path=str(path))


@pytest.mark.parametrize(
    "text",
    [
        "ann@birch.com\noak.example\n",
        "\ufeffann@birch.com\r\noak.example\r\n",
        "email,status\nann@birch.com,bounced\nbob@oak.example,left\n",
        '"Email";"Status"\n"ann@birch.com";"bounced"\n"bob@oak.example";"left"',
        "# people\n\n  Ann <ann@birch.com>  # in May\n  # companies\n@oak.example",
        "birch.com#our own\nhttps://oak.example/\n,,\n",
        "id,email\n1,ann@birch.com\n2,bob@oak.example",
        'Name;E-Mail Address;Note\n"Lee, Ann";ann@birch.com;x, y\n;bob@oak.example;',
        "company,contact_email,domain\nBirch,ann@birch.com,birch.com\nOak,Bob@oak.example,",
        "Company Name\tCompany Domain\nBirch\tbirch.com\nOak\toak.example",
        # Without a header, and with headers of other languages.
        "1,Ann,ann@birch.com\n2,Bob,bob@oak.example",
        "Ann\tann@birch.com\nOak\toak.example",
        "Nr;E-Mail-Adresse;Von\n1;ann@birch.com;x@elm.example\n2;bob@oak.example;",
        "id,E-mailadres\n1,ann@birch.com\n2,bob@oak.example",
        "Nom,Adresse \u00e9lectronique\nA,ann@birch.com\nB,bob@oak.example",
        "id,Correo electr\u00f3nico\n1,ann@birch.com\n2,bob@oak.example",
        "sep=;\r\nid;email\r\n1;ann@birch.com\r\n2;bob@oak.example\r\n",
        "id,email\r1,ann@birch.com\r2,bob@oak.example",
        "id\temail\n1\tann@birch.com\n2\tbob@oak.example".encode("utf-16"),
    ],
)
def test_suppression_file_may_be_an_export(
    target: TargetUnderTest, text: str | bytes
) -> None:
    assert with_list(target, text).outcomes == {"filtered": 2, "accepted": 1}


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "# list\nann@birch.com\n\nBob\n",
            "never.csv, line 4 (`suppress_path`) can match",
        ),
        (
            "email\nann@birch.com\nemail\n",
            "never.csv, line 3 (`suppress_path`) can match",
        ),
        (
            "ann@birch.com bob@oak.example\n",
            "never.csv, line 1 (`suppress_path`) can match",
        ),
        (
            "id,email,note\n1,ann@birch.com,\n2,,x\n",
            "never.csv, line 3 (`suppress_path`) can match",
        ),
        (
            "name,website\nBirch,birch.com\nOak,\n",
            "never.csv, line 3 (`suppress_path`) can match",
        ),
        ("id,email\n1,J\xfcrgen\n".encode("latin-1"), "it is not UTF-8"),
        (
            "name,email\nBirch,ann@birch.con\n",
            "never.csv, line 2 (`suppress_path`) can match",
        ),
        ("id,email,reason\n1\n", "never.csv, line 2 (`suppress_path`) can match"),
        (
            "Acme,unsubscribed\nBirch,birch.com\n",
            "never.csv, line 1 (`suppress_path`) can match",
        ),
    ],
)
def test_wrong_line_of_a_suppression_file_stops_the_run(
    sandbox: Sandbox, target: TargetUnderTest, text: str | bytes, error: str
) -> None:
    run = with_list(target, text)

    assert run.exit_code == 1
    assert error in run.error
    assert "irch" not in run.error
    assert sandbox.signals == []


def test_suppression_file_must_be_readable(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    missing = target.run(a_schema(), a_record(), suppress_path=str(tmp_path / "no"))

    assert missing.exit_code == 1
    assert f"No such file or directory ({tmp_path / 'no'})" in missing.error


def test_suppression_file_without_entries_is_warned_about(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    assert with_list(target, "id,emailAddress\n# empty\n").exit_code == 0

    warning = ("WARNING", "Suppression: 0 addresses and 0 domains.")
    assert warning in [(r.levelname, r.getMessage()) for r in caplog.records]


def test_run_and_check_print_how_many_entries_there_are(
    target: TargetUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    target.config["suppress"] = [
        "ann@birch.com",
        "Ann@Birch.com",
        "oak.example",
        "*.org",
    ]
    caplog.set_level("INFO", "target_stairoids")

    target.run(a_schema())
    checked = signals(target, "check")

    assert "Suppression: 1 address, 1 domain and 1 pattern." in caplog.text
    assert "suppress 1 address, 1 domain and 1 pattern" in checked.stdout
