"""Suppressed people and companies get no signal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from target_stairoids.checks.suppression import SuppressionList
from target_stairoids.mapping.signal import Signal
from tests.support.singer_io import TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


@pytest.mark.parametrize(
    ("entry", "is_suppressed"),
    [
        ("acme.example", True),
        ("eu.acme.example", True),
        ("me.example", False),
        ("x.eu.acme.example", False),
        ("ANN@eu.Acme.example", True),
        ("bob@eu.acme.example", False),
        ("*@*.acme.*", True),
        ("eu.acme.*", True),
        ("acme.*", False),
        ("company.example", True),
        ("  ", False),
    ],
)
def test_suppression_matches_email_and_domains(
    entry: str, *, is_suppressed: bool
) -> None:
    signal = Signal(
        type="trial",
        source="test",
        account={"domain": "company.example"},
        contact={"email": "Ann@eu.acme.example"},
        properties={},
        occurred_at=None,
    )

    assert SuppressionList([entry]).hides(signal) is is_suppressed


def test_suppressed_person_gets_no_signal(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    records = [a_record(1), a_record(2)]

    run = target.run(a_schema(), *records, suppress=["u1@example.com"])

    assert run.outcomes == {"accepted": 1, "filtered": 1}
    assert [s.body["contact"]["email"] for s in sandbox.signals] == ["u2@example.com"]


def test_suppression_file_must_be_readable(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "never.txt"
    path.write_text("example.com  # our own\n\n")

    suppressed = target.run(a_schema(), a_record(), suppress_path=str(path))
    missing = target.run(a_schema(), a_record(), suppress_path=str(tmp_path / "no"))

    assert suppressed.outcomes == {"filtered": 1}
    assert missing.exit_code == 1
    assert "`suppress_path` cannot be read: No such file" in missing.error
