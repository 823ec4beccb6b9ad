"""The commands about the store, in process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tap_stairoids_webhooks.cli.main import main
from tap_stairoids_webhooks.signature import Verifier, sign
from tap_stairoids_webhooks.store.archive import import_from
from tap_stairoids_webhooks.store.consumers import acknowledge
from tap_stairoids_webhooks.store.schema import Outcome, RefusalCount
from tap_stairoids_webhooks.store.statistics import statistics_of
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery, deliveries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tap_stairoids_webhooks.store.store import EventStore


def run(*arguments: str, url: str, stdin: str | None = None) -> Result:
    env = {"STAIROIDS_WEBHOOK_SECRET": SECRET, "STAIROIDS_WEBHOOKS_STORE_URL": url}
    return CliRunner().invoke(main, arguments, env=env, input=stdin)


def a_line(body: bytes | None = None, **more: Any) -> str:
    body = a_body() if body is None else body
    line = {"body": body.decode(), "signature": sign(body, SECRET).decode(), **more}
    return json.dumps(line) + "\n"


def test_logged_deliveries_are_imported_once(store_url: str, tmp_path: Path) -> None:
    text = a_line(a_body("evt_1")) + "\n" + a_line("é".encode())
    text += a_line(a_body("evt_2"), event="signal.created", received_at="2024-02-01")
    (tmp_path / "log.jsonl").write_text(text)

    first = run("import", str(tmp_path / "log.jsonl"), url=store_url)
    again = run("import", "-", url=store_url, stdin=text)

    assert json.loads(first.output) == {"stored": 3, "refused": {}}
    assert json.loads(again.output) == {"duplicate": 3, "refused": {}}


def test_imported_event_is_like_a_received_one(
    store: EventStore, store_url: str
) -> None:
    line = a_line(event="signal.created", received_at="2024-02-01T01:00:00+01:00")
    run("import", "-", url=store_url, stdin=line)

    (event,) = store.read_after(0, upper=9)

    assert event.received_at == "2024-02-01T00:00:00.000000Z"
    assert event.headers == {"x-stairoids-event": "signal.created"}
    assert (event.body, event.event_id) == (a_body(), "evt_1")
    assert store.append([a_delivery()]) == [Outcome.DUPLICATE]


def test_large_lines_are_imported_in_small_commits(store: EventStore) -> None:
    def lines() -> Iterator[bytes]:
        for number in range(11):
            yield a_line(a_body(f"evt_{number}", pad="x" * 1024 * 1024)).encode()
        assert statistics_of(store).total == 8

    done = import_from(lines(), store=store, verifier=Verifier([SECRET]))

    assert done.outcomes == {Outcome.STORED: 11}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "not_json"),
        ("[" * 100_000, "not_json"),
        ("[]", "no_body_or_signature"),
        ('{"body": {}, "signature": "x"}', "no_body_or_signature"),
        ('{"body": "x", "signature": "sha256=é"}', "signature_mismatch"),
        ('{"body": "\\ud800", "signature": "x"}', "signature_mismatch"),
        (a_line().replace("evt_1", "evt_2"), "signature_mismatch"),
        (a_line(received_at="yesterday"), "received_at"),
        (a_line(received_at=17), "received_at"),
        (a_line(received_at="0001-01-01T00:00:00Z"), "received_at"),
        (a_line(received_at="1999-12-31T23:59:59Z"), "received_at"),
        (a_line(received_at="2999-01-01"), "received_at"),
    ],
)
def test_unproven_line_is_refused(
    store: EventStore, store_url: str, line: str, reason: str
) -> None:
    stdin = a_line(a_body("evt_good")) + line.rstrip() + "\n"

    result = run("import", "-", url=store_url, stdin=stdin)

    assert result.exit_code == 1
    assert f"refused lines: 1 ({reason}), the first is line 2 [E233]" in result.output
    assert EMAIL not in result.output
    assert statistics_of(store).total == 1


def test_event_of_a_line_may_be_any_text(store: EventStore, store_url: str) -> None:
    """It is an unsigned header, so the line counts without it."""
    line = a_line(event="__event__").replace("__event__", "\\ud800")

    result = run("import", "-", url=store_url, stdin=line)

    assert result.exit_code == 0
    assert statistics_of(store).total == 1


@pytest.mark.parametrize(
    "command",
    [f"forward retry {2**64}", "prune --yes --older-than 1d --keep-digests 9999999"],
)
def test_number_beyond_any_store_is_refused(store_url: str, command: str) -> None:
    result = run(*command.split(), url=store_url)

    assert result.exit_code == 2
    assert "is not in the range" in result.output


def test_stats_show_days_refusals_and_lag(store: EventStore, store_url: str) -> None:
    store.append([*deliveries(3), a_delivery(b"no")])
    for number in (2, 3):
        at = f"2024-10-1{number}T00:00:00.000000Z"
        store.add_refusals(
            {"signature_mismatch": RefusalCount(number=number, last_at=at)}
        )
    acknowledge(store, "crm", {"*": 1})

    found = json.loads(run("stats", "--format", "json", url=store_url).output)
    table = run("stats", url=store_url).output

    assert found["days"] == {"2024-10-15": {"(none)": 1, "signal.created": 3}}
    assert found["refused"] == {
        "signature_mismatch": {"number": 5, "last_at": "2024-10-13T00:00:00.000000Z"}
    }
    assert found["consumers"]["crm"]["behind"] == 3
    for name in ("refused: signature_mismatch", "behind: crm", "on 2024-10-15"):
        assert name in table


def test_prune_keeps_events_of_consumers_until_they_are_forgotten(
    store: EventStore, store_url: str
) -> None:
    store.append(deliveries(3))
    acknowledge(store, "crm", {"*": 2})

    young = run("prune", "--yes", "--older-than", "2024-10-15", url=store_url)
    pruned = run("prune", "--yes", "--older-than", "30d", url=store_url)
    unknown = run(
        "prune", "--yes", "--older-than", "1h", "--forget-consumer=x", url=store_url
    )
    forgotten = run(
        *("prune", "--yes", "--older-than", "1m", "--forget-consumer", "crm"),
        url=store_url,
    )
    dry = run(
        *("prune", "--dry-run", "--older-than", "1m", "--forget-consumer", "crm"),
        url=store_url,
    )
    forced = run("prune", "--yes", "--older-than", "30d", "--force", url=store_url)
    stats = run("stats", url=store_url)

    assert json.loads(young.output) == {"removed": 0, "kept": 0, "kept_for": {}}
    assert json.loads(pruned.output) == {
        "removed": 2,
        "kept": 1,
        "kept_for": {"crm": 1},
    }
    assert (unknown.exit_code, "no consumer 'x'" in unknown.output) == (1, True)
    for refused in (forgotten, dry):
        assert refused.exit_code == 1
        assert "anything except those of --forget-consumer. So" in refused.output
        assert "[E234]" in refused.output
    assert json.loads(forced.output) == {"removed": 1, "kept": 0, "kept_for": {}}
    assert "last delivery: its event was pruned" in stats.output


def test_compact_returns_the_space_of_pruned_events(
    store: EventStore, store_url: str
) -> None:
    body = a_body(pad="x" * 100_000)
    for number in range(20):
        store.append([a_delivery(body.replace(b"evt_1", b"evt_%d" % number))])
    acknowledge(store, "crm", {"*": 19})

    run("prune", "--yes", "--older-than", "1d", url=store_url)
    before = sum(store.database.sizes().values())
    done = run("prune", "--yes", "--older-than", "1d", "--compact", url=store_url)

    printed = json.loads(done.output)
    assert printed["kept_for"] == {"crm": 1}
    assert printed["bytes_before"] == before > 2_000_000
    assert printed["bytes_after"] == sum(store.database.sizes().values()) < 300_000
    assert [event.sequence for event in store.read_after(0, upper=99)] == [20]
    assert store.append([a_delivery(a_body("evt_new"))]) == [Outcome.STORED]
    assert store.last_sequence() == 21


@pytest.mark.parametrize("age", ["soon", "999999999999d", ""])
def test_wrong_age_is_refused(store_url: str, age: str) -> None:
    result = run("prune", "--yes", "--older-than", age, url=store_url)

    assert result.exit_code == 2
    assert "not an age (90d, 12h, 30m) or a time (2026-01-31)" in result.output


def test_erase_empties_events_of_a_person(store: EventStore, store_url: str) -> None:
    store.append([a_delivery(), a_delivery(a_body("evt_2", data={"id": "con_9"}))])

    by_id = run("erase", "--yes", "--contact-id", "con_9", url=store_url)
    by_email = run("erase", "--yes", "--email", EMAIL.upper(), url=store_url)

    assert json.loads(by_id.output) == {"erased": 1}
    assert json.loads(by_email.output) == {"erased": 1}
    assert {event.body for event in store.read_after(0, upper=9)} == {b""}
    assert (
        json.loads(run("stats", "--format", "json", url=store_url).output)["erased"]
        == 2
    )


@pytest.mark.parametrize("arguments", [(), ("--email", " "), ("--contact-id", "")])
def test_erase_needs_a_person(store_url: str, arguments: tuple[str, ...]) -> None:
    result = run("erase", "--yes", *arguments, url=store_url)

    assert result.exit_code == 1
    assert "name the person" in result.output


def test_restored_begins_another_generation(store: EventStore, store_url: str) -> None:
    result = run("restored", url=store_url)

    assert json.loads(result.output) == {"generation": store.generation + 1}


def test_forgotten_consumer_is_a_consumer_no_longer(
    store: EventStore, store_url: str
) -> None:
    acknowledge(store, "crm", {"*": 2})

    done = run("forget", "crm", "--yes", url=store_url)
    again = run("forget", "crm", "--yes", url=store_url)

    assert json.loads(done.output) == {"forgotten": "crm"}
    assert statistics_of(store).consumers == {}
    assert (again.exit_code, "no consumer 'crm'" in again.output) == (1, True)
