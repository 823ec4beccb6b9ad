"""The public names of the target, for use in code."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import target_stairoids
from target_stairoids import Client, ResponseKind, Signal
from tests.support.documents import blocks, page

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox


def test_client_sends_a_signal(sandbox: Sandbox) -> None:
    trial = Signal(
        type="trial",
        source="billing",
        contact={"email": "ada@example.com"},
        account={},
        properties={"plan": "pro"},
    )

    client = Client(sandbox.url, sandbox.api_key, timeout=30)
    response = client.post_signal(trial.checked_text())
    client.close()

    assert response.kind is ResponseKind.ACCEPTED
    assert response.signal_id == sandbox.signals[0].id
    assert sandbox.signals[0].body["properties"] == {"plan": "pro"}


def test_code_on_the_page_sends_a_signal(
    sandbox: Sandbox, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = (b for b in blocks(page("guides/send-one.md"), "python") if "Client" in b)
    there = code.replace("https://api.stairoids.com/v1", sandbox.url)

    exec(there.replace("sk_live_…", sandbox.api_key))  # noqa: S102 - of our own page

    assert capsys.readouterr().out == f"{sandbox.signals[0].id}\n"


def test_other_names_are_not_public() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Ledger'"):
        target_stairoids.Ledger  # noqa: B018 - the access is the test
