"""A filtered list reads few signals, however many are stored."""

from __future__ import annotations

import time

import msgspec

from stairoids_sandbox.state.keys import ApiKey
from stairoids_sandbox.state.signal_index import SignalIndex, SignalQuery
from stairoids_sandbox.state.signal_request import SignalRequest
from stairoids_sandbox.state.workspace import Workspace
from tests.support.sandbox_client import a_body

KEY = ApiKey(name="key-1", scope="write")


def an_index(signals: int) -> SignalIndex:
    workspace = Workspace(log=None, on_accepted=lambda _: None)
    for number in range(signals):
        body = a_body(contact={"email": f"person{number}@acme.com"}, account=...)
        request = msgspec.convert(body, SignalRequest)
        workspace.accept(request, raw=b"", key=KEY)
    return workspace.signals


def test_rare_value_is_found_without_reading_the_others() -> None:
    index = an_index(signals=5_000)
    everything = SignalQuery(type="product_trial_started", limit=5_000)
    query = SignalQuery(
        source="internal_app",
        type="product_trial_started",
        account_domain="acme.com",
        contact_email="person7@acme.com",
    )

    began = time.thread_time()
    index.find(everything)
    took_all = time.thread_time() - began
    began = time.thread_time()
    for _ in range(20):
        page = index.find(query)
    took = time.thread_time() - began

    assert [signal.sequence for signal in page] == [8]
    assert took < took_all


def test_pages_cover_everything_once() -> None:
    index = an_index(signals=1_000)
    found: list[int] = []
    before = None

    for _ in range(20):
        page = index.find(SignalQuery(type="product_trial_started", before=before))
        found += [signal.sequence for signal in page]
        before = found[-1]

    assert found == list(range(1_000, 0, -1))
    assert index.find(SignalQuery(before=before)) == []
