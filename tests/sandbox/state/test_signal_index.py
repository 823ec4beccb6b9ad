"""A filtered list reads only what it must, however many signals are stored."""

from __future__ import annotations

import time

from stairoids_sandbox.state.keys import ApiKey
from stairoids_sandbox.state.signal_index import SignalQuery
from stairoids_sandbox.state.signal_request import draft_from
from stairoids_sandbox.state.workspace import Workspace
from tests.support.sandbox_client import a_body

KEY = ApiKey(name="key-1", scope="write")


def a_workspace(signals: int) -> Workspace:
    workspace = Workspace(journal=None, announce=lambda _: None)
    for number in range(signals):
        body = a_body(contact={"email": f"person{number}@acme.com"}, account=...)
        workspace.accept(draft_from(body), body=body, raw=b"", key=KEY)
    return workspace


def test_rare_value_is_found_without_reading_the_others() -> None:
    index = a_workspace(signals=20_000).signals
    query = SignalQuery(
        source="internal_app",
        type="product_trial_started",
        account_domain="acme.com",
        contact_email="person7@acme.com",
    )

    began = time.perf_counter()
    for _ in range(1_000):
        page = index.find(query)
    took = time.perf_counter() - began

    assert [signal.sequence for signal in page] == [8]
    assert took < 1


def test_pages_cover_everything_once() -> None:
    index = a_workspace(signals=1_000).signals
    found: list[int] = []
    before = None

    for _ in range(20):
        page = index.find(SignalQuery(type="product_trial_started", before=before))
        found += [signal.sequence for signal in page]
        before = found[-1]

    assert found == list(range(1_000, 0, -1))
    assert index.find(SignalQuery(before=before)) == []
