"""Type, id and dedupe key of any signed body."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tap_stairoids_webhooks.event import event_from, payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError
from tests.support.webhook_builders import a_body, an_action_body


def test_enveloped_event_is_identified_by_its_id() -> None:
    event = event_from(a_body("evt_1", "signal.created"))

    assert (event.event, event.event_id) == ("signal.created", "evt_1")
    assert event.dedupe_key == "id:evt_1"


def test_flat_event_is_identified_by_its_run() -> None:
    first = event_from(an_action_body())
    reworded = event_from(an_action_body(automation_name="Renamed"))

    assert first.event == "automation.action_triggered"
    assert first.event_id is None
    assert first.dedupe_key == reworded.dedupe_key
    assert first.variant != reworded.variant


@pytest.mark.parametrize(
    ("one", "other", "is_equal"),
    [
        (b'{"a": 1, "b": {"c": 2, "d": 3}}', b'{"b":{"d":3,"c":2},\n"a":1}', True),
        (b'{"a": "\\u00e9"}', '{"a": "é"}'.encode(), True),
        (b'{"a": 1}', b'{"a": 2}', False),
        (b'{"a": 1.10}', b'{"a": "1.10"}', False),
        (b'{"a": [1, 2]}', b'{"a": [2, 1]}', False),
        (b'{"a": null}', b"{}", False),
        (b'{"a": 12345678901234567890123}', b'{"a": 12345678901234567890124}', False),
    ],
)
def test_bodies_are_compared_as_canonical_json(
    one: bytes, other: bytes, *, is_equal: bool
) -> None:
    assert (event_from(one).variant == event_from(other).variant) is is_equal


@pytest.mark.parametrize(
    "changed",
    [
        {"automation_id": "auto_2"},
        {"triggered_at": "2024-09-01T14:32:06Z"},
        {"signal": {"id": "sig_2"}},
        {"automation_id": "auto_1sig_1", "signal": {"id": ""}},
    ],
)
def test_other_run_is_another_event(changed: dict[str, Any]) -> None:
    run, other = event_from(an_action_body()), event_from(an_action_body(**changed))

    assert run.dedupe_key != other.dedupe_key


def test_runs_without_signal_differ_by_their_bodies() -> None:
    """Two accounts may cross a threshold in the same second."""
    acme = event_from(an_action_body(signal_id=None))
    other = event_from(an_action_body(signal_id=None, account={"id": "acc_2"}))

    assert acme.dedupe_key == f"body:{acme.variant}"
    assert acme.dedupe_key != other.dedupe_key


@pytest.mark.parametrize(
    ("body", "event"),
    [
        ({"automation_id": "a"}, "automation.action_triggered"),
        (
            {"event": "automation.triggered", "automation_id": "a"},
            "automation.action_triggered",
        ),
        (
            {"event": "automation.action_triggered", "automation_id": "a", "data": {}},
            "automation.triggered",
        ),
        ({"event": "automation.triggered", "data": {}}, "automation.triggered"),
        ({"event": "automation.finished", "automation_id": "a"}, "automation.finished"),
        ({"event": "signal.created", "data": {}}, "signal.created"),
        ({"event": "brand.new"}, "brand.new"),
        ({"event": 7}, None),
        ({"event": ["x"]}, None),
        ({"event": "x" * 1000}, None),
        ({"event": "a\u0000b"}, None),
        ({"data": {}}, None),
        ({}, None),
    ],
)
def test_shape_decides_between_the_automation_events(
    body: dict[str, object], event: str | None
) -> None:
    assert event_from(json.dumps(body).encode()).event == event


@pytest.mark.parametrize("event_id", ["x" * 5000, "a\u0000b", "\n"])
def test_unwieldy_id_still_dedupes(event_id: str) -> None:
    one, two = event_from(a_body(event_id)), event_from(a_body(event_id + "y"))

    assert one.event_id is None
    assert len(one.dedupe_key) == len("id:") + 64
    assert one.dedupe_key != two.dedupe_key


MALFORMED = [
    (b"", "not JSON (byte 0)"),
    (b"{", "not JSON (byte 1)"),
    (b"<html>", "not JSON (byte 0)"),
    (b'{"a": 1} {"b": 2}', "not JSON (byte 9)"),
    (b"\xef\xbb\xbf{}", "not JSON (byte 0)"),
    (b'{"a": "\xff"}', "not UTF-8"),
    (b'{"a": NaN}', "not JSON (NaN)"),
    (b'{"a": -Infinity}', "not JSON (-Infinity)"),
    (b'{"a": 1, "a": 2}', "a key that occurs twice"),
    (b'{"a":1,"a":1}', "a key that occurs twice"),
    (b'{"a": {"b": 1, "b": 1}}', "a key that occurs twice"),
    (b'{"a":[{"b":"","b":""}]}', "a key that occurs twice"),
    (b'{"a": "\\ud800"}', "half of a surrogate pair"),
    (b"[1]", "not a JSON object"),
    (b"null", "not a JSON object"),
    (b'"text"', "not a JSON object"),
    (b'{"a": ' + b"9" * 9000 + b"}", "a number that is too long"),
    (b'{"a": 1e99999999999999999999}', "a number that is too long"),
    (b'{"a":' * 200 + b"1" + b"}" * 200, "nested too deeply"),
    (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("body", "reason"), MALFORMED)
def test_malformed_body_is_an_event(body: bytes, reason: str) -> None:
    event = event_from(body)

    assert event.malformed == reason
    assert (event.event, event.event_id) == (None, None)
    assert event.dedupe_key == f"body:{event.body_sha256}"


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b'{"a": 1.10}', {"a": Decimal("1.10")}),
        (b'{"a": 123456789012345678901}', {"a": 123456789012345678901}),
        (b'{"a": "\\ud83d\\ude00"}', {"a": "😀"}),
        (b'{"a": "\\u0000"}', {"a": "\x00"}),
        (b' {"a" : [ ] } \n', {"a": []}),
        (b'{"a":' * 99 + b"1" + b"}" * 99, None),
    ],
)
def test_odd_json_is_read_exactly(body: bytes, payload: object) -> None:
    read = payload_from(body)

    assert payload is None or read == payload


@given(st.binary())
def test_arbitrary_bytes_are_an_event(body: bytes) -> None:
    assert event_from(body).body_sha256


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_arbitrary_json_is_read_or_refused(value: object) -> None:
    body = json.dumps({"event": value, "id": value, "data": value}).encode()

    event = event_from(body)

    if event.malformed is None:
        assert payload_from(body)
    else:
        with pytest.raises(MalformedBodyError):
            payload_from(body)
