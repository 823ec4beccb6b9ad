"""The settings that select events, in runs of the tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import a_body, a_delivery

if TYPE_CHECKING:
    from tests.support.running_tap import Runner


@pytest.mark.usefixtures("filled")
def test_event_types_select_events(run: Runner) -> None:
    run.config["event_types"] = ["signal.created", "brand.new"]

    output = run()

    assert output.sequences("events") == [1, 8, 10]
    assert output.sequences("signal_created") == [1, 10]
    assert output.sequences("signal_scored") == []
    assert output.sequences("malformed_events") == [9]


def test_since_selects_events(run: Runner, store: EventStore) -> None:
    times = ["2024-01-31T23:59:59.999999Z", "2024-02-01T00:00:00.000000Z"]
    for number, time in enumerate(times):
        delivery = a_delivery(a_body(f"evt_{number}"))
        store.append([replace(delivery, received_at=time)])

    for since in ("2024-02-01", "2024-02-01T01:00:00+01:00"):
        run.config["since"] = since
        output = run()

        assert output.sequences("events") == [2]
        assert output.sequences("signal_created") == [2]


def test_filters_keep_the_bookmark(run: Runner, filled: str) -> None:
    run.config |= {"event_types": ["signal.created"], "since": "2024-01-01"}
    first = run()
    with EventStore.create(filled) as store:
        store.append(
            [a_delivery(a_body("evt_x", "other")), a_delivery(a_body("evt_y"))]
        )

    second = run(state=first.state)

    assert second.sequences("events") == [12]
    assert second.sequences("signal_created") == [12]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"since": "yesterday"}, "`since` is not a time such as"),
        ({"event_types": []}, "`event_types` must not be empty"),
        ({"event_types": 5}, "`event_types` must be of type array"),
        ({"consumer": ""}, "`consumer` must not be empty"),
    ],
)
def test_wrong_filter_is_named(
    run: Runner, config: dict[str, Any], message: str
) -> None:
    run.config |= config

    output = run()

    assert output.exit_code == 1
    assert message in output.log
    assert "Traceback" not in output.log
