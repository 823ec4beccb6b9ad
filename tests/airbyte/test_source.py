"""The protocol of `source-stairoids-webhooks`. It skips and repeats no event."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator

from stairoids_airbyte.source_command import main
from tap_stairoids_webhooks.store.consumers import lags
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.forwards import ForwardQueue
from tap_stairoids_webhooks.store.schema import METADATA
from tap_stairoids_webhooks.store.store import EventStore
from target_stairoids.exceptions import LostLedgerError
from target_stairoids.ledger import queries
from tests.support.connectors import errors_in, messages_in, run_connector
from tests.support.forks import Forked, forked
from tests.support.ledger_builders import accept, opened
from tests.support.postgres import autocommit
from tests.support.running_tap import fill
from tests.support.singer_io import BIN
from tests.support.webhook_builders import EMAIL, SECRET, a_body, a_delivery

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = str(BIN / "source-stairoids-webhooks")
Message = dict[str, Any]


class Source:
    """`source-stairoids-webhooks` over a store of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"sqlite:///{folder}/webhooks.db"
        self.config: dict[str, Any] = {"store_url": self.url}

    def words(self, command: str, state: object = None) -> list[str]:
        """Write the files of a command; return its words."""
        words = [command]
        if command == "spec":
            return words
        (self.folder / "config.json").write_text(json.dumps(self.config))
        words += ["--config", str(self.folder / "config.json")]
        if command == "read":
            words += ["--catalog", str(self.folder / "catalog.json")]
        if state is not None:
            (self.folder / "state.json").write_text(json.dumps(state))
            words += ["--state", str(self.folder / "state.json")]
        return words

    def run(self, command: str, state: object = None) -> tuple[int, str]:
        """Run a command; return its exit code and its output."""
        return run_connector(main, self.words(command, state))

    def choose(self, *names: str, mode: str = "incremental") -> None:
        """Configure a catalog of these streams."""
        (message,) = messages_in(self.run("discover")[1], "CATALOG")
        streams = [
            {"stream": s, "sync_mode": mode, "destination_sync_mode": "append"}
            for s in message["catalog"]["streams"]
            if s["name"] in names
        ]
        (self.folder / "catalog.json").write_text(json.dumps({"streams": streams}))


@pytest.fixture
def source(tmp_path: Path) -> Source:
    source = Source(tmp_path)
    fill(source.url)
    return source


def sequences_in(printed: str, stream: str = "events") -> list[int]:
    records = [message["record"] for message in messages_in(printed, "RECORD")]
    return [r["data"]["sequence"] for r in records if r["stream"] == stream]


def states_in(printed: str) -> list[Message]:
    return [message["state"] for message in messages_in(printed, "STATE")]


def error_in(printed: str) -> Message:
    (error,) = errors_in(printed)
    return error


def test_spec_is_a_form_with_marked_secrets(source: Source) -> None:
    (message,) = messages_in(source.run("spec")[1], "SPEC")

    spec = message["spec"]["connectionSpecification"]
    Draft7Validator.check_schema(spec)
    assert Draft7Validator(spec).is_valid({**source.config, "secrets": ["a"]})
    assert spec["required"] == ["store_url"]
    assert spec["properties"]["secrets"]["items"]["airbyte_secret"]
    assert spec["properties"]["store_url"]["airbyte_secret"]


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"store_url": "sqlite:////nowhere/webhooks.db"}, "stairoids-webhooks serve"),
        ({"stor_url": "canary"}, "did you mean `store_url`?"),
        ({"since": "canary"}, "`since` is not a time"),
        ({"secrets": ["canary", ""]}, "`secrets[1]` must not be empty"),
        ({"secrets": ["canary "]}, "`secrets` begins or ends with white space"),
    ],
)
def test_failed_check_has_a_reason_without_values(
    source: Source, config: Message, says: str
) -> None:
    source.config |= config

    code, printed = source.run("check")

    (message,) = messages_in(printed, "CONNECTION_STATUS")
    assert (code, message["connectionStatus"]["status"]) == (0, "FAILED")
    assert says in message["connectionStatus"]["message"]
    assert "canary" not in printed


def test_check_of_an_existing_store_succeeds(source: Source) -> None:
    (message,) = messages_in(source.run("check")[1], "CONNECTION_STATUS")

    assert message["connectionStatus"]["status"] == "SUCCEEDED"


def status_of(printed: str) -> Message:
    (message,) = messages_in(printed, "CONNECTION_STATUS")
    return dict(message["connectionStatus"])


def test_check_finds_a_consumer_that_is_a_forwarder(source: Source) -> None:
    with EventStore.open(source.url) as store:
        ForwardQueue(store, store, "crm").begin()
    source.config["consumer"] = "crm"
    _, taken = source.run("check")
    source.config["consumer"] = "warehouse"
    _, free = source.run("check")

    assert status_of(taken)["status"] == "FAILED"
    assert "the consumer 'crm' is a forwarder" in status_of(taken)["message"]
    assert status_of(free)["status"] == "SUCCEEDED"
    with EventStore.open_read_only(source.url) as store:
        assert lags(store).keys() == {"crm"}


@pytest.mark.slow
def test_check_finds_a_consumer_that_cannot_be_written(
    source: Source, postgres: str
) -> None:
    EventStore.create(postgres).close()
    with autocommit(postgres) as connection:
        connection.exec_driver_sql("CREATE ROLE reader LOGIN")
        connection.exec_driver_sql(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader"
        )
    source.config["store_url"] = postgres.replace("//postgres:", "//reader:")
    _, without = source.run("check")
    source.config["consumer"] = "crm"
    _, printed = source.run("check")
    _, read = source.run("read")
    with autocommit(postgres) as connection:
        METADATA.drop_all(connection)
        connection.exec_driver_sql("DROP ROLE reader")

    assert status_of(without)["status"] == "SUCCEEDED"
    assert status_of(printed)["status"] == "FAILED"
    assert "cannot acknowledge: permission denied" in status_of(printed)["message"]
    assert error_in(read)["failure_type"] == "config_error"


def test_state_with_a_name_twice_is_read_as_pyairbyte_writes_it(source: Source) -> None:
    source.choose("events")
    words = source.words("read", states_in(source.run("read")[1])[-1:])
    path = source.folder / "state.json"
    path.write_text(path.read_text().replace("[{", '[{"global_": 1, "global_": null, '))

    code, printed = run_connector(main, words)

    assert (code, sequences_in(printed)) == (0, [])


def test_second_read_has_only_later_events(source: Source) -> None:
    source.choose("events", "signal_created")

    _, first = source.run("read")
    _, nothing = source.run("read", states_in(first))
    with EventStore.create(source.url) as store:
        store.append([a_delivery(a_body("evt_late"))])
    code, later = source.run("read", states_in(nothing))

    assert code == 0
    assert sequences_in(first) == list(range(1, 11))
    assert sequences_in(first, "signal_created") == [1, 10]
    assert sequences_in(nothing) == []
    assert sequences_in(later) == [11]
    assert sequences_in(later, "signal_created") == [11]
    counts = [state["sourceStats"]["recordCount"] for state in states_in(first)]
    assert counts == [10.0, 2.0]


def test_state_between_two_records_can_be_resumed(source: Source) -> None:
    with EventStore.create(source.url) as store:
        store.append([a_delivery(a_body(f"evt_many_{n}")) for n in range(1_010)])
    source.choose("events")

    _, whole = source.run("read")
    code, rest = source.run("read", states_in(whole)[:1])

    assert [s["sourceStats"]["recordCount"] for s in states_in(whole)] == [1_000, 20]
    assert code == 0
    assert sequences_in(rest) == list(range(1_001, 1_021))


def test_source_with_a_ledger_has_the_sync_log(source: Source) -> None:
    url = source.config["ledger_url"] = f"sqlite:///{source.folder}/ledger.db"
    with opened(url) as ledger:
        accept(ledger, 1)
        source.choose("signals", "runs")
        checked = source.run("check")[1]
        _, first = source.run("read")
        accept(ledger, 2)
        _, second = source.run("read", states_in(first))
    source.choose("dead_letters", mode="full_refresh")
    code, dead_letters = source.run("read")

    assert "ledger.db can be read" in checked
    assert sequences_in(first, "signals") == [1]
    assert sequences_in(first, "runs") == [1]
    assert sequences_in(second, "signals") == [2]
    assert sequences_in(second, "runs") == []
    assert (code, messages_in(dead_letters, "RECORD")) == (0, [])


def test_lost_connection_to_the_ledger_is_a_transient_error(
    source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = source.config["ledger_url"] = f"sqlite:///{source.folder}/ledger.db"
    with opened(url) as ledger:
        accept(ledger, 1)
    source.choose("signals")

    def fail(*_arguments: object) -> None:
        raise LostLedgerError("The connection to the ledger broke off.")

    monkeypatch.setattr(queries, "log_after", fail)
    _, printed = source.run("read")

    assert error_in(printed)["failure_type"] == "transient_error"


def test_full_refresh_reads_all_events(source: Source) -> None:
    source.choose("events", mode="full_refresh")

    _, printed = source.run("read")

    assert sequences_in(printed) == list(range(1, 11))


def test_statuses_of_a_stream_enclose_records_and_state(source: Source) -> None:
    source.choose("malformed_events")

    _, printed = source.run("read")

    kinds = [
        message["trace"]["stream_status"]["status"]
        if message["type"] == "TRACE"
        else message["type"]
        for message in map(json.loads, printed.splitlines())
        if message["type"] != "LOG"
    ]
    assert kinds == ["STARTED", "RUNNING", "RECORD", "STATE", "COMPLETE"]


def test_catalog_with_a_stream_twice_or_an_unknown_mode_is_refused(
    source: Source,
) -> None:
    path = source.folder / "catalog.json"
    source.choose("events")
    (stream,) = json.loads(path.read_text())["streams"]
    for streams, says in (
        ([stream, stream], "The catalog has a stream twice: events. [E339]"),
        (
            [{**stream, "stream": {**stream["stream"], "name": "old"}}],
            "The catalog names streams that do not exist: old. [E489]",
        ),
        ([{**stream, "sync_mode": "full"}], "at `$.streams[0].sync_mode`"),
    ):
        path.write_text(json.dumps({"streams": streams}))

        code, printed = source.run("read")

        assert code == 1
        assert error_in(printed)["failure_type"] == "config_error"
        assert says in error_in(printed)["message"]
        assert sequences_in(printed) == []


@pytest.mark.parametrize("stream", ["events", "signal_created", "malformed_events"])
def test_earlier_since_is_a_warning_for_each_choice_of_streams(
    source: Source, stream: str
) -> None:
    source.choose(stream, "erasures", "signal_scored")
    source.config["since"] = "2024-02-01"
    states = states_in(source.run("read")[1])
    source.config["since"] = "2024-01-01"

    _, printed = source.run("read", states)
    _, later = source.run("read", states_in(printed))

    assert printed.count("now selects older events") == 1
    assert "now selects older events" not in later


def test_numbers_keep_their_digits(source: Source) -> None:
    body = b'{"event":"x","a":1.10,"b":12345678901234567890123}'
    with EventStore.create(source.url) as store:
        store.append([a_delivery(body)])
    source.choose("events")

    _, printed = source.run("read")

    assert f'"payload":{body.decode()}' in printed


def test_state_of_another_store_is_a_config_error(source: Source) -> None:
    source.choose("events")
    states = states_in(source.run("read")[1])
    for path in source.folder.glob("webhooks.db*"):
        path.unlink()
    fill(source.url)

    code, failed = source.run("read", states)
    source.config["on_store_reset"] = "resync"
    _, again = source.run("read", states)

    assert (code, error_in(failed)["failure_type"]) == (1, "config_error")
    assert sequences_in(failed) == []
    assert sequences_in(again) == list(range(1, 11))


def test_stream_that_is_read_again_keeps_no_digest_of_the_lost_store(
    source: Source,
) -> None:
    erase(source.url, Person(email=EMAIL))
    source.choose("erasures")
    states = states_in(source.run("read")[1])
    for path in source.folder.glob("webhooks.db*"):
        path.unlink()
    fill(source.url)
    source.config["on_store_reset"] = "resync"
    states = states_in(source.run("read", states)[1])
    source.config["on_store_reset"] = "fail"

    code, printed = source.run("read", states)

    assert (code, errors_in(printed)) == (0, [])


def a_state(inner: object) -> list[Message]:
    return [
        {"stream": {"stream_descriptor": {"name": "events"}, "stream_state": inner}}
    ]


@pytest.mark.parametrize("inner", [None, {}])
def test_state_of_a_stream_may_be_empty(source: Source, inner: object) -> None:
    source.choose("events")

    code, printed = source.run("read", a_state(inner))

    assert (code, errors_in(printed)) == (0, [])
    assert messages_in(printed, "RECORD")


@pytest.mark.parametrize(
    "state",
    [
        *("x", [1], [{"stream": None}], {"data": {}}),
        *map(a_state, ([], [1], "", "7", {"cursor": 7}, {"sequence": None})),
        a_state({"sequence": "7"}),
    ],
    ids=json.dumps,
)
def test_malformed_state_is_a_config_error(source: Source, state: object) -> None:
    source.choose("events")

    code, printed = source.run("read", state)

    assert (code, error_in(printed)["failure_type"]) == (1, "config_error")
    assert sequences_in(printed) == []


def test_named_consumer_acknowledges_the_bookmark_of_its_state(source: Source) -> None:
    source.choose("events")
    states = states_in(source.run("read")[1])
    source.config["consumer"] = "warehouse"

    code, printed = source.run("read", states)

    assert code == 0
    assert "Acknowledged as warehouse: {'*': 10}" in printed


def test_row_without_a_valid_signature_stops_the_sync_after_a_state(
    source: Source,
) -> None:
    with EventStore.create(source.url) as store:
        store.append([a_delivery(a_body("evt_forged"), secret="other")])  # noqa: S106
    source.choose("events")
    source.config["secrets"] = [SECRET]

    code, printed = source.run("read")
    _, again = source.run("read", states_in(printed))

    assert (code, error_in(printed)["failure_type"]) == (1, "config_error")
    assert sequences_in(printed) == list(range(1, 11))
    assert sequences_in(again) == []


def test_row_without_a_valid_signature_is_skipped_and_logged_without_its_body(
    source: Source,
) -> None:
    with EventStore.create(source.url) as store:
        store.append([a_delivery(a_body("evt_forged"), secret="other")])  # noqa: S106
    source.choose("events")
    source.config |= {"secrets": [SECRET], "on_unverified": "skip"}

    _, printed = source.run("read")

    logged = [message["log"]["message"] for message in messages_in(printed, "LOG")]
    assert sequences_in(printed) == list(range(1, 11))
    assert any("number=1 first_sequence=11" in line for line in logged)
    assert not any(EMAIL in line or SECRET in line for line in logged)


def test_terminated_read_writes_the_state_of_its_last_record(source: Source) -> None:
    with EventStore.create(source.url) as store:
        for start in range(0, 2_000, 1_000):
            numbers = range(start, start + 1_000)
            bodies = [a_body(f"e_{n}", "x", pad="x" * 500) for n in numbers]
            store.append([a_delivery(body) for body in bodies])
    source.choose("events")
    with Forked(
        forked([COMMAND, *source.words("read")]), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        begun = ""
        while '"type":"RECORD"' not in begun:
            begun += process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        printed = begun + process.stdout.read()

    _, rest = source.run("read", states_in(printed)[-1:])

    assert process.returncode == 128 + signal.SIGTERM
    assert error_in(printed)["failure_type"] == "transient_error"
    assert 0 < len(sequences_in(printed)) < 2_010
    assert sequences_in(printed) + sequences_in(rest) == list(range(1, 2_011))
    counts = [state["sourceStats"]["recordCount"] for state in states_in(printed)]
    assert sum(counts) == len(sequences_in(printed))


def test_stop_while_modules_are_imported_ends_the_process_by_sigint(
    source: Source,
) -> None:
    source.choose("events")
    with subprocess.Popen(
        [COMMAND, *source.words("read")],
        env=os.environ | {"PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        while "sqlalchemy" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        log = process.stderr.read()

    assert process.returncode in {-signal.SIGINT, 128 + signal.SIGINT}
    assert "Aborted" not in log


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "sqlite:///./x/x.db", "SQLite:///x.db", " sqlite:///x.db"]
)
def test_relative_store_is_refused_because_it_is_lost_with_the_container(
    source: Source, url: str
) -> None:
    source.config["store_url"] = url

    _, printed = source.run("check")

    status = messages_in(printed, "CONNECTION_STATUS")[0]["connectionStatus"]
    assert status["status"] == "FAILED"
    assert "by an absolute path" in status["message"]
    assert status["message"].endswith("[E499]")
