"""The payloads of both pages that document Stairoids' webhooks, where they differ."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tap_stairoids_webhooks.event import event_from
from tap_stairoids_webhooks.store.schema import Outcome
from tests.support.webhook_builders import a_delivery

if TYPE_CHECKING:
    from tap_stairoids_webhooks.store.store import EventStore
    from tests.support.running_tap import Runner

AT = "2024-10-15T09:30:00Z"


def enveloped(event: str, data: object, **more: Any) -> dict[str, Any]:
    return {"event": event, "id": "evt_1", "created_at": AT, "data": data, **more}


def flat(event: str = "automation.action_triggered", **more: Any) -> dict[str, Any]:
    return {"event": event, "automation_id": "auto_1", "triggered_at": AT, **more}


# topic, body, stream, a path in its record, the value there
ROWS: list[tuple[str, dict[str, Any], str, str, object]] = [
    (
        "account is an object",
        enveloped("signal.created", {"account": {"domain": "acme.test"}}),
        "signal_created",
        "data.account.domain",
        "acme.test",
    ),
    (
        "account is a string",
        enveloped("signal.created", {"account": "acme.test"}),
        "signal_created",
        "data.account.value",
        "acme.test",
    ),
    (
        "account is null",
        enveloped("signal.created", {"account": None}),
        "signal_created",
        "data.account",
        None,
    ),
    (
        "property values are scalars",
        enveloped("signal.created", {"properties": {"plan": "pro"}}),
        "signal_created",
        "data.properties.plan",
        "pro",
    ),
    (
        "property values are any JSON",
        enveloped("signal.created", {"properties": {"pages": ["/", {"a": 1}]}}),
        "signal_created",
        "data.properties.pages",
        ["/", {"a": 1}],
    ),
    (
        "an automation ran: flat, as action_triggered",
        flat(signal={"id": "sig_1"}),
        "automation_action_triggered",
        "automation_id",
        "auto_1",
    ),
    (
        "an automation ran: enveloped, as triggered",
        enveloped("automation.triggered", {"account": {"id": "acc_1"}}),
        "automation_triggered",
        "data.account.id",
        "acc_1",
    ),
    (
        "the shape decides: flat, under the other name",
        flat("automation.triggered", signal={"id": "sig_1"}),
        "automation_action_triggered",
        "signal.id",
        "sig_1",
    ),
    (
        "the shape decides: enveloped, under the other name",
        enveloped("automation.action_triggered", {"signal": {"id": "sig_1"}}),
        "automation_triggered",
        "data.signal.id",
        "sig_1",
    ),
    (
        "a contact has a name",
        enveloped("signal.created", {"contact": {"name": "Ada King"}}),
        "signal_created",
        "data.contact.name",
        "Ada King",
    ),
    (
        "a contact has a first and a last name",
        flat(contact={"first_name": "Ada", "last_name": "King"}),
        "automation_action_triggered",
        "contact.last_name",
        "King",
    ),
    (
        "a signal type of either page",
        enveloped("signal.created", {"type": "page_view"}),
        "signal_created",
        "data.type",
        "page_view",
    ),
    (
        "a score is an integer",
        enveloped("signal.scored", {"score": 72}),
        "signal_scored",
        "data.score",
        72,
    ),
    (
        "a score is a number",
        enveloped("account.score_changed", {"score": 72.5}),
        "account_score_changed",
        "data.score",
        72.5,
    ),
    (
        "a score is missing",
        enveloped("contact.score_changed", {"score": None}),
        "contact_score_changed",
        "data.score",
        None,
    ),
    (
        "a time is ISO 8601",
        enveloped("signal.created", {"created_at": AT}),
        "signal_created",
        "data.created_at",
        AT,
    ),
    (
        "a time is a number",
        enveloped("signal.created", {"created_at": 1728984600000}),
        "signal_created",
        "data.created_at",
        None,
    ),
    (
        "a field no page has",
        enveloped("signal.created", {"brand": {"new": 1}}),
        "signal_created",
        "data.brand.new",
        1,
    ),
]


def test_documented_payloads_become_records(run: Runner, store: EventStore) -> None:
    bodies = [
        body | ({"id": f"evt_{n}"} if "id" in body else {})
        for n, (_, body, *_) in enumerate(ROWS)
    ]
    store.append([a_delivery(json.dumps(body).encode()) for body in bodies])

    output = run()

    assert [record["payload"] for record in output.records("events")] == bodies
    for sequence, (topic, _, stream, path, value) in enumerate(ROWS, start=1):
        (found,) = (r for r in output.records(stream) if r["sequence"] == sequence)
        for name in path.split("."):
            found = found[name]
        assert found == value, topic


STORED, DUPLICATE = Outcome.STORED, Outcome.DUPLICATE
# topic, two bodies, the outcome of the second one
SECOND: list[tuple[str, dict[str, Any], dict[str, Any], Outcome]] = [
    ("the id is the event's", enveloped("a.b", {}), enveloped("a.b", {}), DUPLICATE),
    ("another id", enveloped("a.b", {}), enveloped("a.b", {}, id="evt_2"), STORED),
    (
        "without id: the automation's run",
        flat(signal={"id": "s"}),
        flat(signal={"id": "s"}, automation_name="renamed"),
        Outcome.CONFLICT,
    ),
    (
        "without id: another run",
        flat(signal={"id": "s"}),
        flat(signal={"id": "s"}, triggered_at="2024-10-15T09:30:01Z"),
        STORED,
    ),
    ("without id or signal: the body", flat(), flat(), DUPLICATE),
    ("without id or signal: another body", flat(), flat(account=None), STORED),
    (
        "both names for one run stay two events",
        flat(signal={"id": "s"}),
        enveloped("automation.triggered", {"signal": {"id": "s"}}),
        STORED,
    ),
]


@pytest.mark.parametrize(
    ("one", "other", "outcome"), [row[1:] for row in SECOND], ids=[r[0] for r in SECOND]
)
def test_redelivery_is_recognised_by_its_body(
    store: EventStore, one: dict[str, Any], other: dict[str, Any], outcome: Outcome
) -> None:
    bodies = [json.dumps(body).encode() for body in (one, other)]

    outcomes = store.append([a_delivery(body) for body in bodies])

    assert outcomes == [STORED, outcome]
    assert event_from(bodies[0]).event is not None
