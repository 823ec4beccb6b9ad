"""Signals are accepted, listed and read as documented."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

import pytest

from stairoids_sandbox import Sandbox
from stairoids_sandbox.exceptions import UsageError
from tests.support.sandbox_client import Client, a_body, wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.sandbox_receiver import Receiver


def test_flat_response_has_the_documented_fields(client: Client) -> None:
    response = client.send()

    assert response.status_code == 201
    assert set(response.json()) == {
        *("id", "type", "source", "status"),
        *("account_id", "contact_id", "created_at"),
    }
    assert response.json()["status"] == "received"
    assert response.json()["id"].startswith("sig_")


def test_nested_response_holds_account_contact_and_score() -> None:
    with Sandbox(success_shape="nested") as sandbox, Client(sandbox) as client:
        response = client.send(type="meeting_booked").json()

    assert response["account"]["domain"] == "acmecorp.com"
    assert response["contact"]["email"] == "jane.doe@acmecorp.com"
    assert response["score"] == 25


def test_enveloped_response_holds_data_and_meta() -> None:
    with Sandbox(success_shape="enveloped") as sandbox, Client(sandbox) as client:
        response = client.send().json()

    assert set(response) == {"data", "meta"}
    assert set(response["data"]) == {"id", "type", "account_id", "created_at"}
    assert set(response["meta"]) == {"request_id", "timestamp"}


def test_side_that_was_not_sent_is_null(client: Client) -> None:
    company_only = client.send(contact=...).json()
    free_mail_only = client.send(account=..., contact={"email": "j@gmail.com"}).json()

    assert company_only["contact_id"] is None
    assert free_mail_only["account_id"] is None


def test_signal_without_domain_is_matched_by_its_email_domain(client: Client) -> None:
    client.send(account=..., contact={"email": "Jane@Acme.com"})

    (listed,) = client.get("/signals", account_domain="ACME.com").json()["data"]

    assert listed["account"]["domain"] == "acme.com"
    assert listed["contact"]["email"] == "jane@acme.com"


def test_case_of_domain_and_email_makes_no_second_record(client: Client) -> None:
    first = client.send(
        account={"domain": "Acme.com"}, contact={"email": "J@acme.com"}
    ).json()
    second = client.send(
        account={"domain": "acme.com"}, contact={"email": "j@ACME.com"}
    ).json()

    assert first["account_id"] == second["account_id"]
    assert first["contact_id"] == second["contact_id"]


def test_read_signal_has_the_documented_shape(client: Client) -> None:
    sent = client.send(occurred_at="2024-06-15T16:23:00.5+02:00").json()

    response = client.get(f"/signals/{sent['id']}").json()

    assert set(response) == {"data", "meta"}
    signal = response["data"]
    assert signal == {
        "id": sent["id"],
        "type": "product_trial_started",
        "account": {
            "id": sent["account_id"],
            "domain": "acmecorp.com",
            "name": "Acme Corp",
            "score": 5,
        },
        "contact": {
            "id": sent["contact_id"],
            "email": "jane.doe@acmecorp.com",
            "score": 5,
        },
        "score": 5,
        "source": "internal_app",
        "properties": {"plan": "pro_trial"},
        "occurred_at": "2024-06-15T14:23:00.500000Z",
        "created_at": sent["created_at"],
    }


def test_unknown_signal_is_404(client: Client) -> None:
    response = client.get("/signals/sig_abc123")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "signal_not_found"
    assert response.json()["error"]["message"] == "No signal found with ID sig_abc123."
    assert response.json()["error"]["request_id"].startswith("req_")


def test_pages_are_newest_first_and_end_with_null(client: Client) -> None:
    sent = [client.send(type=f"type_{n}").json()["id"] for n in range(5)]
    listed: list[str] = []
    cursors: list[str | None] = []
    page = {"cursor": ""}
    params: dict[str, str] = {}

    for _ in range(3):
        page = client.get("/signals", limit=2, **params).json()
        listed += [signal["id"] for signal in page["data"]]
        cursors.append(page["meta"]["next_cursor"])
        params = {"cursor": str(cursors[-1])}
        client.send(type="accepted meanwhile")

    assert listed == sent[::-1]
    assert cursors[-1] is None
    assert all(cursors[:-1])


def test_list_filters(client: Client) -> None:
    for number, domain, source in (
        ("1", "one.com", "crm"),
        ("2", "two.com", "crm"),
        ("3", "three.com", "web"),
    ):
        client.send(
            type=number,
            source=source,
            account={"domain": domain},
            contact={"email": f"a@{domain}"},
            occurred_at=f"2024-01-0{number}T00:00:00Z",
        )

    for filters, found in (
        ({"account_domain": "one.com"}, ["1"]),
        ({"contact_email": "a@two.com"}, ["2"]),
        ({"type": "2"}, ["2"]),
        ({"source": "crm"}, ["2", "1"]),
        ({"source": "nothing"}, []),
        ({"source": "crm", "account_domain": "two.com"}, ["2"]),
        ({"from": "2024-01-02T00:00:00Z"}, ["3", "2"]),
        ({"to": "2024-01-02T00:00:00Z"}, ["2", "1"]),
    ):
        response = client.get("/signals", **filters)
        assert [signal["type"] for signal in response.json()["data"]] == found, filters


def test_wrong_query_is_400_and_names_the_parameter(client: Client) -> None:
    for name, value in (
        ("limit", "0"),
        ("limit", "201"),
        ("limit", "-1"),
        ("limit", "many"),
        ("cursor", "elsewhere"),
        ("from", "yesterday"),
        ("to", "2024-01-01T00:00:00"),
        ("id", "sig_1"),
    ):
        response = client.get("/signals", **{name: value})
        assert response.status_code == 400, (name, value)
        assert response.json()["error"]["param"] == name


def test_default_limit_is_50(client: Client) -> None:
    for _ in range(51):
        client.send()

    assert len(client.get("/signals").json()["data"]) == 50
    assert len(client.get("/signals", limit=200).json()["data"]) == 51


def test_excluded_domain_is_422_and_not_stored() -> None:
    with (
        Sandbox(excluded_domains={"Rival.com"}) as sandbox,
        Client(sandbox) as client,
    ):
        response = client.send(account={"domain": "rival.COM"})
        by_email = client.send(account=..., contact={"email": "a@rival.com"})

        assert (response.status_code, by_email.status_code) == (422, 422)
        assert response.json()["error"]["code"] == "domain_excluded"
        assert sandbox.signals == []


def test_bytes_are_kept_as_received(sandbox: Sandbox, client: Client) -> None:
    raw = b'{"type": "t", "contact": {"email": "a@b.c"}, "properties": {"x": 0.10}}'

    client.session.post(
        client.url + "/signals",
        data=raw,
        headers={"Content-Type": "application/json; charset=utf-8"},
        timeout=30,
    )

    assert sandbox.signals[0].raw == raw


def test_source_is_optional(client: Client, sandbox: Sandbox) -> None:
    assert client.post("/signals", a_body(source=...)).json()["source"] is None
    assert sandbox.signals[0].source is None


# Workspaces


def test_key_sees_its_workspace_only() -> None:
    keys = {"one": "read_write", "two": "read_write", "three": "read_write"}
    with (
        Sandbox(keys=keys, workspaces={"two": "other"}) as sandbox,
        Client(sandbox, "one") as one,
        Client(sandbox, "two") as two,
        Client(sandbox, "three") as three,
    ):
        first = one.send().json()
        second = two.send().json()
        hook = {"url": "https://example.com/hook", "events": ["signal.created"]}
        hook_id = one.post("/webhooks", hook).json()["id"]
        rule = {
            "name": "rule",
            "type": "outgoing",
            "trigger": {"event": "signal.created"},
            "action": {"type": "webhook", "config": {"url": "https://example.com/"}},
        }
        one.post("/automations", rule)

        assert two.get(f"/signals/{first['id']}").status_code == 404
        assert one.get(f"/signals/{second['id']}").status_code == 404
        for client in (one, three):
            listed = client.get("/signals").json()["data"]
            assert [signal["id"] for signal in listed] == [first["id"]]
            assert client.get("/webhooks").json()["total"] == 1
            assert client.get("/automations").json()["total"] == 1
        assert [s["id"] for s in two.get("/signals").json()["data"]] == [second["id"]]
        assert two.get("/webhooks").json()["total"] == 0
        assert two.get("/automations").json()["total"] == 0
        assert two.session.delete(f"{two.url}/webhooks/{hook_id}").status_code == 404
        scores = [signal.account.score for signal in sandbox.signals if signal.account]
        assert scores == [5, 5]
    assert [signal.workspace for signal in sandbox.signals] == ["default", "other"]


def test_webhooks_of_a_workspace_get_no_signals_of_another(receiver: Receiver) -> None:
    keys = {"one": "read_write", "two": "read_write"}
    with Sandbox(keys=keys, workspaces={"two": "other"}) as sandbox:
        sandbox.webhooks.add(url=receiver.url, events=["signal.created"])
        sandbox.automations.add(type="*", url=receiver.url, workspace="other")
        with Client(sandbox, "two") as two:
            two.send()
        wait_until(lambda: len(sandbox.deliveries) == 1)
        assert sandbox.deliveries[0].event == "automation.action_triggered"


def test_workspace_of_an_unknown_key_is_refused() -> None:
    with pytest.raises(UsageError, match="a key that does not exist"):
        Sandbox(workspaces={"unknown": "other"})


def test_workspaces_survive_a_restart(tmp_path: Path) -> None:
    options = {
        "keys": {"one": "read_write", "two": "read_write"},
        "workspaces": {"two": "other"},
        "db": tmp_path / "sandbox.db",
    }
    with Sandbox(**options) as sandbox, Client(sandbox, "two") as two:  # type: ignore[arg-type]
        two.send()
    with Sandbox(**options) as again, Client(again, "one") as one:  # type: ignore[arg-type]
        assert one.get("/signals").json()["data"] == []


def test_clock_of_stairoids_may_be_wrong() -> None:
    with Sandbox(clock_offset_seconds=-7200) as sandbox, Client(sandbox) as client:
        response = client.send()
        listed = client.get("/signals").json()

    behind = datetime.now(UTC) - timedelta(hours=2)
    for text in (
        parsedate_to_datetime(response.headers["Date"]).isoformat(),
        response.json()["created_at"],
        listed["meta"]["timestamp"],
        listed["data"][0]["created_at"],
    ):
        assert abs(datetime.fromisoformat(text) - behind) < timedelta(minutes=1)


def test_list_may_lag_behind() -> None:
    with Sandbox(list_lag_seconds=3600) as sandbox, Client(sandbox) as client:
        sent = client.send().json()

        assert client.get("/signals").json()["data"] == []
        assert client.get(f"/signals/{sent['id']}").status_code == 200


def test_filters_may_keep_upper_case() -> None:
    with Sandbox(filters_exactly=True) as sandbox, Client(sandbox) as client:
        client.send(contact={"email": "Jane@Acme.com"})
        found = [
            len(client.get("/signals", contact_email=email).json()["data"])
            for email in ("Jane@Acme.com", "jane@acme.com")
        ]

    assert found == [0, 1]
