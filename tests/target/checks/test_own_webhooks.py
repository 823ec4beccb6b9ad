"""The webhooks of Stairoids are no signals, unless a mapping names their stream."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.forks import forked
from tests.support.running_tap import fill
from tests.support.singer_io import a_record, a_schema, text_of

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, TargetUnderTest

TRIALS = {"stream": "trials", "type": "trial"}
EVENT = {"stream": "events", "type": "{{ event }}", "account": {"domain": "acme.com"}}


@pytest.fixture(scope="module")
def webhooks(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The output of the webhooks tap, without STATE."""
    folder = tmp_path_factory.mktemp("webhooks")
    url = f"sqlite:///{folder / 'webhooks.db'}"
    fill(url)
    config = folder / "tap.json"
    config.write_text(json.dumps({"store_url": url}))
    tap = forked(["tap-stairoids-webhooks", "--config", config])
    printed = subprocess.run(tap, capture_output=True, check=True, text=True).stdout
    return "".join(
        line
        for line in printed.splitlines(keepends=True)
        if json.loads(line)["type"] in {"SCHEMA", "RECORD"}
    )


@on_both_connectors
@pytest.mark.parametrize("items", [[], [TRIALS], [TRIALS, {"stream": "*"}]], ids=str)
def test_webhooks_are_left_out_and_other_streams_are_sent(
    sandbox: Sandbox, target: TargetUnderTest, webhooks: str, items: list[Message]
) -> None:
    text = text_of([a_schema(), a_record(1)]) + webhooks

    run = target.run_text(text, signals=items)

    assert run.exit_code == 0, run.error
    assert run.report["streams"]["trials"] == {"accepted": 1}
    assert len(sandbox.signals) == 1


@on_both_connectors
def test_mapping_that_names_the_stream_sends_webhooks(
    sandbox: Sandbox, target: TargetUnderTest, webhooks: str
) -> None:
    run = target.run_text(webhooks, signals=[EVENT])

    assert run.exit_code == 0, run.error
    assert run.report["streams"]["events"]["accepted"] == len(sandbox.signals) > 0
    assert "signal.created" in {s.body["type"] for s in sandbox.signals}


def test_preview_says_why_webhooks_are_left_out(
    target: TargetUnderTest, webhooks: str
) -> None:
    shown = signals(target, "preview", text=webhooks)

    assert "0 signals would be sent." in shown.stdout
    assert "has the events of Stairoids' own webhooks" in shown.stdout
