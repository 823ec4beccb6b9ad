"""The output of real taps, sent by a target with only a URL and a key."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.paths import DATA

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import TargetUnderTest

STREAMS = sorted(DATA.glob("*.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("path", STREAMS, ids=lambda path: path.stem)
def test_every_record_of_a_real_tap_has_an_outcome_and_is_sent_once(
    sandbox: Sandbox, target: TargetUnderTest, path: Path
) -> None:
    text = path.read_text(encoding="utf-8")
    target.config = {
        name: target.config[name]
        for name in ("api_url", "api_key", "ledger_url", "report_path")
    }

    first = target.run_text(text)
    sent = len(sandbox.signals)
    second = target.run_text(text)

    assert first.exit_code == second.exit_code == 0
    assert first.report["adds_up"]
    assert first.report["signals"] == text.count('"RECORD"')
    assert sent == first.outcomes["accepted"] > 0
    assert "accepted" not in second.outcomes
    assert len(sandbox.signals) == sent
    assert first.states[-1] == second.states[-1]
