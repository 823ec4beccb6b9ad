"""The protocol of `destination-stairoids`. Tests of sending are in tests/target."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from jsonschema import Draft7Validator

from stairoids_airbyte.destination_command import main
from stairoids_sandbox import Fault, Sandbox
from target_stairoids.cli.main import main as signals_command
from target_stairoids.settings import config_schema
from tests.support.connectors import errors_in, messages_in, run_connector
from tests.support.forks import forked
from tests.support.singer_io import BIN, TargetUnderTest

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = dict[str, Any]

_BASELINE = (
    "set a new `namespace`, and `first_run: baseline` for one sync with all records"
)


class Destination:
    """`destination-stairoids` with a config and a folder of its own."""

    def __init__(self, folder: Path, api_url: str) -> None:
        self.folder = folder
        self.config = TargetUnderTest(folder, api_url).config

    def run(self, command: str, *more: str, text: str = "") -> tuple[int, str]:
        """Run a command; return its exit code and its output."""
        path = self.folder / "config.json"
        path.write_text(json.dumps(self.config))
        files = [] if command == "spec" else ["--config", str(path)]
        return run_connector(main, [command, *files, *more], text)

    def write(self, catalog: Message, *messages: Message) -> tuple[int, str]:
        path = self.folder / "catalog.json"
        path.write_text(json.dumps(catalog))
        text = "".join(f"{json.dumps(message)}\n" for message in messages)
        return self.run("write", "--catalog", str(path), text=text)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def destination(sandbox: Sandbox, tmp_path: Path) -> Destination:
    return Destination(tmp_path, sandbox.url)


def a_stream(name: str = "users", **more: Any) -> Message:
    own = {key: more.pop(key) for key in ("namespace", "json_schema") if key in more}
    properties = {"id": {}, "email": {}, "at": {}, "user": {"type": "object"}}
    schema = {"type": "object", "properties": properties}
    return {
        "stream": {"name": name, "json_schema": schema, **own},
        "sync_mode": "incremental",
        "destination_sync_mode": "append",
        "primary_key": [["id"]],
        **more,
    }


def a_catalog(*streams: Message) -> Message:
    return {"streams": list(streams or [a_stream()])}


def a_record(number: int, stream: str = "users", **more: Any) -> Message:
    data = {"id": number, "email": f"u{number}@example.com", **more.pop("data", {})}
    record = {"stream": stream, "data": data, "emitted_at": 1, **more}
    return {"type": "RECORD", "record": record}


def a_state(at: int, stream: str = "users", **more: Any) -> Message:
    told = {"stream_descriptor": {"name": stream}, "stream_state": {"at": at}}
    return {"type": "STATE", "state": {"type": "STREAM", "stream": told, **more}}


def statuses_in(printed: str) -> list[str]:
    traces = [message["trace"] for message in messages_in(printed, "TRACE")]
    return [t["stream_status"]["status"] for t in traces if t["type"] != "ERROR"]


def counts_in(printed: str) -> list[float]:
    states = [message["state"] for message in messages_in(printed, "STATE")]
    return [state["destinationStats"]["recordCount"] for state in states]


def test_spec_has_the_settings_of_the_target_and_marks_secrets(
    destination: Destination,
) -> None:
    _, printed = destination.run("spec")

    (message,) = messages_in(printed, "SPEC")
    spec = message["spec"]["connectionSpecification"]
    Draft7Validator.check_schema(spec)
    assert Draft7Validator(spec).is_valid(destination.config)
    ours = config_schema()["properties"]
    assert set(ours) - set(spec["properties"]) == {"on_incomplete"}
    for name, setting in spec["properties"].items():
        marked = setting.get("items", setting)  # each text of a list is a secret
        assert marked.get("airbyte_secret", False) == ours[name].get("secret", False)
        assert isinstance(setting["type"], str)
    assert spec["required"] == ["api_key", "ledger_url"]
    modes = message["spec"]["supported_destination_sync_modes"]
    assert modes == ["append", "append_dedup"]


def test_check_succeeds_and_sends_nothing(
    destination: Destination, sandbox: Sandbox
) -> None:
    code, printed = destination.run("check")

    (message,) = messages_in(printed, "CONNECTION_STATUS")
    assert (code, message["connectionStatus"]["status"]) == (0, "SUCCEEDED")
    assert len(sandbox.signals) == 0


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"api_key": "sk_canary"}, "Check `api_key`"),
        ({"api_url": "http://127.0.0.1:1/v1"}, "cannot be reached"),
        ({"api_keey": "canary"}, "did you mean `api_key`?"),
        ({"ledger_url": "sqlite:///canary.db"}, "by an absolute path"),
        ({"dry_run": "canary"}, "`dry_run` must be true or false"),
        ({"on_incomplete": "succeed"}, "`on_incomplete` is not a setting"),
        ({"signals": [{"stream": "*", "properties": "[canary"}]}, "2: not JSON"),
        (
            {"signals": [{"stream": "*", "account": '{"name": "a", "name": "b"}'}]},
            "`signals[0].account`: `name` is set twice",
        ),
        ({"signals": [{"stream": "*", "when": "plan ="}]}, "mapping: unexpected"),
        ({"signals": [{"stream": "*", "type": "a"}] * 2}, "mappings are named `a`"),
        ({"namespace": "a\0"}, "`namespace` has the character NUL"),
        (
            {"signals": [{"stream": "*", "contact": "{{ canary }}"}]},
            "`signals[0].contact` must be",
        ),
        ({"first_run": "{canary}"}, "`first_run` must be one of"),
    ],
    ids=lambda value: str([*value]) if isinstance(value, dict) else value,
)
def test_failed_check_has_a_reason_without_values(
    destination: Destination, wrong: Message, says: str
) -> None:
    destination.config |= wrong

    code, printed = destination.run("check")

    (message,) = messages_in(printed, "CONNECTION_STATUS")
    status = message["connectionStatus"]
    assert (code, status["status"]) == (0, "FAILED")
    assert says in status["message"]
    assert "canary" not in printed


def test_name_that_is_not_unicode_is_written_with_an_escape(
    destination: Destination,
) -> None:
    destination.config["\ud800"] = "canary"
    _, checked = destination.run("check")
    code, written = destination.write(a_catalog(), a_record(1))

    (message,) = messages_in(checked, "CONNECTION_STATUS")
    (error,) = errors_in(written)
    assert (code, error["failure_type"]) == (1, "config_error")
    for told in (message["connectionStatus"], error):
        assert "`\\ud800` is not a setting" in told["message"]


def test_check_during_an_outage_fails(
    destination: Destination, sandbox: Sandbox
) -> None:
    sandbox.faults.add(Fault(kind="status", status=503, on="read"))

    _, printed = destination.run("check")

    (message,) = messages_in(printed, "CONNECTION_STATUS")
    status = message["connectionStatus"]
    assert status["status"] == "FAILED"
    assert "The key cannot be checked: 503 " in status["message"]


def test_state_is_returned_unchanged_with_its_record_count(
    destination: Destination,
) -> None:
    odd = a_state(1, sourceStats={"recordCount": 2.0}, id=7, global_=None)

    code, printed = destination.write(
        a_catalog(a_stream(), a_stream("other")),
        a_record(1),
        a_record(2, "other"),
        a_record(3),
        odd,
        a_state(2, "other"),
        a_state(3),
    )

    assert code == 0
    first, *_ = messages_in(printed, "STATE")
    assert first["state"] == {
        **odd["state"],
        "destinationStats": {"recordCount": 2.0},
    }
    assert '"recordCount":2.0' in printed
    assert counts_in(printed) == [2, 1, 0]
    assert statuses_in(printed) == ["STARTED", "STARTED", "COMPLETE", "COMPLETE"]


@pytest.mark.parametrize(
    "state",
    [
        {"type": "GLOBAL", "global": {"shared_state": {"lsn": 5}, "stream_states": []}},
        {"type": "LEGACY", "data": {"at": 1}},
        {"type": None, "data": {"at": 1}, "stream": None},
    ],
    ids=["global", "legacy", "untyped"],
)
def test_global_and_legacy_states_count_records_of_all_streams(
    destination: Destination, state: Message
) -> None:
    catalog = a_catalog(a_stream(), a_stream("other"))
    message = {"type": "STATE", "state": state}

    code, printed = destination.write(
        catalog, a_record(1), a_record(2, "other"), message, message
    )

    (first, second) = messages_in(printed, "STATE")
    assert code == 0
    assert state.items() <= first["state"].items()
    assert counts_in(printed) == [2, 0]
    assert second["state"].keys() == first["state"].keys()


def test_other_messages_and_null_siblings_are_ignored(
    destination: Destination, sandbox: Sandbox
) -> None:
    record = {**a_record(1), "state": None, "log": None, "trace": None}
    others: list[Message] = [
        {"type": "LOG", "log": {"level": "INFO", "message": "x"}, "record": None},
        {"type": "TRACE", "trace": {"type": "STREAM_STATUS", "emitted_at": 1}},
        a_status("COMPLETE", namespace=["public"]),
        {"type": "SOMETHING_NEW"},
    ]

    code, _ = destination.write(a_catalog(), *others, record)

    assert code == 0
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize("mode", ["overwrite", "update", "soft_delete", "overwrite_x"])
def test_unsupported_sync_mode_is_refused(
    destination: Destination, sandbox: Sandbox, mode: str
) -> None:
    catalog = a_catalog(a_stream(destination_sync_mode=mode))

    code, printed = destination.write(catalog, a_record(1), a_state(1))

    (error,) = errors_in(printed)
    assert code == 1
    assert error["failure_type"] == "config_error"
    assert f"`{mode}`" in error["message"]
    assert messages_in(printed, "STATE") == []
    assert len(sandbox.signals) == 0


def test_unknown_sync_mode_is_refused(
    destination: Destination, sandbox: Sandbox
) -> None:
    code, printed = destination.write(
        a_catalog(a_stream(sync_mode="full")), a_record(1)
    )

    (error,) = errors_in(printed)
    assert (code, error["failure_type"]) == (1, "config_error")
    assert "'full' - at `$.streams[0].sync_mode`" in error["message"]
    assert len(sandbox.signals) == 0


@pytest.mark.parametrize(
    ("json_schema", "part"),
    [
        ({"properties": []}, "`properties` is not an object"),
        ({"properties": None}, "`properties` is not an object"),
        ({"type": 5}, "`type` is neither"),
        ({"properties": {"id": 5}}, "`properties.id` is not an object"),
        ({"properties": {"id": {"type": ["string", 3]}}}, "`properties.id.type`"),
        ({"properties": {"id": {"anyOf": {}}}}, "`properties.id.anyOf` is not a list"),
        ({"properties": {"email": {}}}, "its key `id` is not one of its properties"),
        (True, "`$.streams[0].stream.json_schema`"),
        ([], "`$.streams[0].stream.json_schema`"),
    ],
)
def test_malformed_json_schema_is_a_config_error(
    destination: Destination, sandbox: Sandbox, json_schema: object, part: str
) -> None:
    catalog = a_catalog(a_stream(json_schema=json_schema))

    code, printed = destination.write(catalog, a_record(1))

    (error,) = errors_in(printed)
    assert code == 1
    assert error["failure_type"] == "config_error"
    assert part in error["message"]
    assert not sandbox.signals


def test_true_is_the_schema_of_any_value(
    destination: Destination, sandbox: Sandbox
) -> None:
    some = {"anyOf": [True, {"type": "null"}]}
    inner = {"type": "object", "properties": {"y": True}}
    properties = {"id": True, "email": {}, "some": some, "inner": inner}
    catalog = a_catalog(a_stream(json_schema={"properties": properties}))

    code, printed = destination.write(catalog, a_record(1))

    assert (code, errors_in(printed)) == (0, [])
    assert len(sandbox.signals) == 1


@pytest.mark.parametrize(
    ("configured", "sent"), [("", None), (None, ""), ("", "")], ids=repr
)
def test_empty_namespace_is_none(
    destination: Destination,
    sandbox: Sandbox,
    configured: str | None,
    sent: str | None,
) -> None:
    state = a_state(1)
    state["state"]["stream"]["stream_descriptor"]["namespace"] = sent

    code, printed = destination.write(
        a_catalog(a_stream(namespace=configured)), a_record(1, namespace=sent), state
    )

    assert (code, counts_in(printed), len(sandbox.signals)) == (0, [1], 1)
    (returned,) = messages_in(printed, "STATE")
    assert returned["state"]["stream"] == state["state"]["stream"]


@pytest.mark.parametrize("path", [[], [""]], ids=str)
def test_empty_path_of_a_primary_key_is_no_key(
    destination: Destination, sandbox: Sandbox, path: list[str]
) -> None:
    catalog = a_catalog(a_stream(primary_key=[path]))

    code, _ = destination.write(catalog, a_record(1), a_record(2), a_record(1))

    assert (code, len(sandbox.signals)) == (0, 2)


def test_state_with_half_a_surrogate_pair_is_returned(
    destination: Destination,
) -> None:
    state = a_state(1)
    state["state"]["stream"]["stream_state"] = {"name": "\ud800"}

    destination.write(a_catalog())

    # In a process, because Airbyte's classes of the tests refuse such a text.
    command = "destination-stairoids write --config config.json --catalog catalog.json"
    done = subprocess.run(
        forked(command.split()),
        cwd=destination.folder,
        input=f"{json.dumps(a_record(1))}\n{json.dumps(state)}\n",
        capture_output=True,
        text=True,
        check=True,
    )

    (returned,) = messages_in(done.stdout, "STATE")
    assert returned["state"]["stream"] == state["state"]["stream"]


def test_refresh_sends_nothing_again(
    destination: Destination, sandbox: Sandbox
) -> None:
    refreshed = a_stream(generation_id=3, minimum_generation_id=3, sync_id=9)

    destination.write(a_catalog(), a_record(1))
    code, _ = destination.write(a_catalog(refreshed), a_record(1))

    assert code == 0
    assert len(sandbox.signals) == 1


def test_namespace_is_part_of_the_name_and_equal_names_are_refused(
    destination: Destination, sandbox: Sandbox
) -> None:
    public = a_stream("users", namespace="public")
    record = a_record(1, namespace="public")

    assert destination.write(a_catalog(public), record)[0] == 0
    code, printed = destination.write(a_catalog(public, a_stream("public-users")))

    assert [s.body["type"] for s in sandbox.signals] == ["public-users"]
    assert code == 1
    assert errors_in(printed)[0]["failure_type"] == "config_error"
    assert errors_in(printed)[0]["message"].endswith("[E339]")


@pytest.mark.parametrize("stream", ["users", "*", None], ids=str)
def test_streams_of_one_name_in_two_namespaces_are_two_streams(
    destination: Destination, sandbox: Sandbox, stream: str | None
) -> None:
    if stream:
        destination.config["signals"] = [{"stream": stream, "type": "sign_up"}]
    catalog = a_catalog(a_stream(namespace="eu"), a_stream(namespace="us"), a_stream())
    records = [a_record(1, namespace=name) for name in ("eu", "us", None)]

    for _ in range(2):
        assert destination.write(catalog, *records)[0] == 0

    types = {"sign_up"} if stream else {"eu-users", "us-users", "users"}
    assert {signal.body["type"] for signal in sandbox.signals} == types
    assert len(sandbox.signals) == 3
    report = json.loads((destination.folder / "report.json").read_text())
    assert set(report["streams"]) == {"eu-users", "us-users", "users"}


@pytest.mark.parametrize(
    ("streams", "types"),
    [
        (["users"], ["users", "users", "users"]),
        (["eu.users", "users"], ["eu.users", "users", "users"]),
        (["users", "eu.users"], ["eu.users", "users", "users"]),
        (["eu-users", "us.*", "*"], ["eu-users", "us.*", "*"]),
        (["u*rs"], ["u*rs", "u*rs", "u*rs"]),
        (["eu-*", "users"], ["eu-*", "users", "users"]),
    ],
    ids=str,
)
def test_mapping_names_a_stream_with_or_without_its_namespace(
    destination: Destination, sandbox: Sandbox, streams: list[str], types: list[str]
) -> None:
    items = [{"stream": stream, "type": stream} for stream in streams]
    destination.config["signals"] = items
    catalog = a_catalog(a_stream(namespace="eu"), a_stream(namespace="us"), a_stream())
    records = [a_record(n, namespace=name) for n, name in enumerate(("eu", "us", None))]

    code, printed = destination.write(catalog, *records)

    assert code == 0, errors_in(printed)
    sent = {s.body["properties"]["id"]: s.body["type"] for s in sandbox.signals}
    assert [sent[n] for n in range(3)] == types
    assert "No stream matched" not in printed


@pytest.mark.parametrize(
    "other",
    [{"namespace": "new"}, {"primary_key": [["email"]]}, {"primary_key": []}],
    ids=["namespace", "primary key", "no primary key"],
)
@pytest.mark.parametrize(
    "signals", [[], [{"stream": "*", "type": "sign_up"}]], ids=["inferred", "mapped"]
)
def test_new_identity_is_a_config_error_that_a_retry_does_not_get_past(
    destination: Destination,
    sandbox: Sandbox,
    other: Message,
    signals: list[Message],
) -> None:
    destination.config["signals"] = signals
    destination.write(a_catalog(), *(a_record(n) for n in range(20)))
    space = {"namespace": other["namespace"]} if "namespace" in other else {}
    again = [a_record(n, **space) for n in range(20)]

    for _attempt in range(3):
        code, printed = destination.write(
            a_catalog(a_stream(**other), a_stream("other")),
            a_record(1, "other", data={"email": "only@example.com"}),
            *again,
            a_state(1),
        )
        (error,) = errors_in(printed)
        assert (code, error["failure_type"]) == (1, "config_error")
        assert "stairoids-signals ledger allow" in error["message"]
        assert _BASELINE in error["message"]
        assert "ledger baseline" not in printed
        assert messages_in(printed, "STATE") == []

    assert len(sandbox.signals) == 21


@pytest.mark.slow
def test_bulk_change_is_a_config_error_and_stays_one_on_each_retry(
    destination: Destination, sandbox: Sandbox
) -> None:
    destination.write(a_catalog(), *(a_record(n) for n in range(300)))
    changed = [a_record(n, data={"plan": "new"}) for n in range(300)]

    for _attempt in range(3):
        code, printed = destination.write(a_catalog(), *changed, a_state(1))
        (error,) = errors_in(printed)
        assert (code, error["failure_type"]) == (1, "config_error")
        assert "more than 60 of its 300 known records" in error["message"]
        assert f"and {_BASELINE}. It remembers" in error["message"]
        assert "ledger baseline" not in printed
        assert messages_in(printed, "STATE") == []

    assert len(sandbox.signals) == 300


def a_status(status: str, stream: str = "users", **more: Any) -> Message:
    told = {"stream_descriptor": {"name": stream, **more}, "status": status}
    trace = {"type": "STREAM_STATUS", "emitted_at": 1, "stream_status": told}
    return {"type": "TRACE", "trace": trace}


def a_failure(**more: Any) -> Message:
    error = {"message": "timeout", "failure_type": "transient_error", **more}
    return {
        "type": "TRACE",
        "trace": {"type": "ERROR", "emitted_at": 1, "error": error},
    }


def allow(destination: Destination, stream: str) -> None:
    path = str(destination.folder / "config.json")
    words = ["ledger", "allow", stream, "--config", path]
    assert CliRunner().invoke(signals_command, words).exit_code == 0


@pytest.mark.parametrize(
    "told",
    [
        [a_status("STARTED"), a_status("INCOMPLETE")],
        [a_status("STARTED"), a_status("RUNNING")],
        [a_status("COMPLETE", "orders")],
        [a_failure()],
        [a_failure(stream_descriptor={"name": "users"})],
        [a_status("COMPLETE"), a_status("STARTED")],
    ],
    ids=["incomplete", "running", "other stream", "error", "its error", "read again"],
)
def test_baseline_that_the_source_cut_is_unfinished(
    destination: Destination, sandbox: Sandbox, told: list[Message]
) -> None:
    rows = [a_record(n) for n in range(5)]
    whole = [a_status("STARTED"), *rows, a_failure(), a_status("COMPLETE")]
    destination.config["first_run"] = "baseline"
    cut, printed = destination.write(a_catalog(), *rows[:3], *told)
    destination.config["first_run"] = "guard"
    held, advice = destination.write(a_catalog(), *rows)
    destination.config["first_run"] = "baseline"
    ended, _ = destination.write(a_catalog(), *whole)
    destination.config["first_run"] = "guard"
    later, _ = destination.write(a_catalog(), *rows, a_record(5))

    assert (cut, held, ended, later) == (1, 1, 0, 0)
    (error,) = errors_in(printed)
    assert "did not read `users` to the end" in error["message"]
    assert f"To remember them, {_BASELINE}. To send" in advice
    assert "ledger baseline" not in advice
    assert len(sandbox.signals) == 1


def test_sync_without_a_message_is_no_baseline(
    destination: Destination, sandbox: Sandbox
) -> None:
    destination.config["first_run"] = "baseline"
    codes = [destination.write(a_catalog(), *m)[0] for m in ([], [a_state(1)])]
    destination.config["first_run"] = "guard"
    codes.append(destination.write(a_catalog(), a_record(1))[0])

    assert (codes, len(sandbox.signals)) == ([1, 0, 0], 1)


def test_baseline_of_each_stream_ends_by_itself(
    destination: Destination, sandbox: Sandbox
) -> None:
    names = ["users", "orders", "leads"]
    catalog = a_catalog(*map(a_stream, names))
    rows = [a_record(n, name) for name in names for n in range(2)]
    told = [a_status("COMPLETE"), a_status("INCOMPLETE", "leads")]
    destination.config["first_run"] = "baseline"
    cut, printed = destination.write(catalog, *rows, *told)
    destination.config["first_run"] = "guard"
    rows += [a_record(7, name) for name in names]
    later, _ = destination.write(catalog, *rows)

    (error,) = errors_in(printed)
    assert "did not read `leads`, `orders` to the end" in error["message"]
    assert statuses_in(printed) == [*["STARTED"] * 3, *["INCOMPLETE"] * 3]
    assert (cut, later) == (1, 1)
    assert [signal.body["type"] for signal in sandbox.signals] == ["users"]


@pytest.mark.slow
def test_allowance_lasts_until_the_source_has_read_the_stream(
    destination: Destination, sandbox: Sandbox
) -> None:
    def changed(plan: str, count: int, *told: Message) -> int:
        rows = [a_record(n, data={"plan": plan}) for n in range(count)]
        return destination.write(a_catalog(), *rows, *told)[0]

    codes = [changed("old", 200), changed("new", 200)]
    allow(destination, "users")
    codes += [
        changed("new", 10, told) for told in (a_status("INCOMPLETE"), a_failure())
    ]
    codes += [changed("new", 200, a_status("COMPLETE")), changed("newer", 200)]

    assert codes == [0, 1, 0, 0, 0, 1]
    assert len(sandbox.signals) == 400


@pytest.mark.slow
@pytest.mark.parametrize("way", ["allow", "another namespace"])
def test_person_decides_on_a_bulk_change(
    destination: Destination, sandbox: Sandbox, way: str
) -> None:
    space = a_stream(namespace="public")
    rows = [a_record(n, namespace="public") for n in range(60)]
    changed = [a_record(n, namespace="public", data={"plan": "b"}) for n in range(61)]
    destination.write(a_catalog(space), *rows)
    assert destination.write(a_catalog(space), *changed[:60])[0] == 1

    if way == "allow":
        allow(destination, "public-users")
    else:
        destination.config |= {"namespace": "v2", "first_run": "baseline"}
    decided, _ = destination.write(a_catalog(space), *changed[:60])
    destination.config["first_run"] = "guard"
    later, _ = destination.write(a_catalog(space), *changed)

    assert (decided, later) == (0, 0)
    assert len(sandbox.signals) == (60 + 60 + 1 if way == "allow" else 60 + 1)


def test_form_has_objects_for_account_and_contact_and_json_text_is_read(
    destination: Destination, sandbox: Sandbox
) -> None:
    _, printed = destination.run("spec")
    spec = messages_in(printed, "SPEC")[0]["spec"]["connectionSpecification"]
    fields = spec["properties"]["signals"]["items"]["properties"]
    assert {fields[name]["type"] for name in ("account", "contact")} == {"object"}
    for name in ("account", "contact"):
        assert {f["type"] for f in fields[name]["properties"].values()} == {"string"}

    item = {"contact": ' {"email": "{{ mail }}"}', "account": "null", "properties": ""}
    destination.config["signals"] = [{"stream": "users", **item}]
    code, printed = destination.write(
        a_catalog(a_stream(json_schema={"properties": {"id": {}, "mail": {}}})),
        a_record(1, data={"mail": "mail@example.com"}),
    )

    assert code == 0, errors_in(printed)
    assert sandbox.signals[0].body["contact"] == {"email": "mail@example.com"}
    assert "account" not in sandbox.signals[0].body


@pytest.mark.parametrize("scheme", ["sqlite", "SQLite"])
@pytest.mark.parametrize(
    ("place", "status"), [("", "SUCCEEDED"), ("a", "FAILED"), ("file", "FAILED")]
)
def test_check_creates_no_ledger(
    destination: Destination, place: str, status: str, scheme: str
) -> None:
    (destination.folder / "file").touch()
    url = f"{scheme}:///{destination.folder}/{place}/ledger.db"
    destination.config["ledger_url"] = url

    _, printed = destination.run("check")

    found = messages_in(printed, "CONNECTION_STATUS")[0]["connectionStatus"]
    assert found["status"] == status
    assert not (destination.folder / "a").exists()
    assert not (destination.folder / "ledger.db").exists()
    assert status == "SUCCEEDED" or "`ledger_url`" in found["message"]


def test_dry_run_prints_no_personal_data(
    destination: Destination, sandbox: Sandbox, capfd: pytest.CaptureFixture[str]
) -> None:
    destination.config["dry_run"] = True

    code, printed = destination.write(a_catalog(), a_record(1))

    assert code == 0
    assert "u1@example.com" not in printed + "".join(capfd.readouterr())
    lines = [message["log"]["message"] for message in messages_in(printed, "LOG")]
    assert "This was a dry run. Without `dry_run` it sends." in lines
    assert len(sandbox.signals) == 0


def test_setting_that_is_null_counts_as_not_set(destination: Destination) -> None:
    names = config_schema()["properties"].keys() - destination.config.keys()
    destination.config |= dict.fromkeys(names)

    _, printed = destination.run("check")

    status = messages_in(printed, "CONNECTION_STATUS")[0]["connectionStatus"]
    assert status["status"] == "SUCCEEDED", status


@pytest.mark.parametrize("mode", ["incremental", "full_refresh"])
def test_cursor_alone_changes_nothing_and_older_record_is_not_sent(
    destination: Destination, sandbox: Sandbox, mode: str
) -> None:
    catalog = a_catalog(a_stream(cursor_field=["at"], sync_mode=mode))

    destination.write(catalog, a_record(1, data={"at": 5}))
    destination.write(catalog, a_record(1, data={"at": 6}))
    destination.write(catalog, a_record(1, data={"at": 4, "plan": "x"}))

    assert len(sandbox.signals) == 1


def test_source_defined_key_may_be_nested(
    destination: Destination, sandbox: Sandbox
) -> None:
    stream = a_stream(primary_key=None)
    stream["stream"]["source_defined_primary_key"] = [["user", "id"]]
    catalog = a_catalog(stream)
    destination.config["signals"] = [{"stream": "users", "send": "once"}]

    for plan in ("a", "b"):
        data = {"user": {"id": 1}, "plan": plan}
        assert destination.write(catalog, a_record(1, data=data))[0] == 0
    assert len(sandbox.signals) == 1
    code, printed = destination.write(catalog, a_record(1, data={"user": {}}))

    assert code == 1
    assert "lacks the key `user.id`" in errors_in(printed)[0]["message"]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (a_record(1, "strange"), "not in the catalog"),
        ({"type": "RECORD", "record": {"stream": "users"}}, "lacks its `stream`"),
        ({"type": "RECORD", "record": None}, "lacks its `stream`"),
        ({"type": "STATE", "state": {"type": "STREAM"}}, "A STATE message"),
        ({"type": "STATE", "state": None}, "A STATE message"),
        ({"no": "canary"}, "Line 2 of the input"),
    ],
)
def test_wrong_message_ends_the_sync_after_the_records_before_it(
    destination: Destination, sandbox: Sandbox, message: Message, says: str
) -> None:
    code, printed = destination.write(a_catalog(), a_record(1), message, a_record(2))

    (error,) = errors_in(printed)
    assert (code, error["failure_type"]) == (1, "system_error")
    assert says in error["message"]
    assert "canary" not in printed
    assert len(sandbox.signals) == 1
    assert statuses_in(printed)[-1] == "INCOMPLETE"


def test_incomplete_sync_is_a_transient_error(destination: Destination) -> None:
    destination.config["max_signals_per_run"] = 1

    code, printed = destination.write(
        a_catalog(), a_record(1), a_state(1), a_record(2), a_state(2)
    )

    (error,) = errors_in(printed)
    assert (code, error["failure_type"]) == (75, "transient_error")
    states = [m["state"]["stream"] for m in messages_in(printed, "STATE")]
    assert [state["stream_state"]["at"] for state in states] == [1]


def test_refused_key_is_a_config_error(destination: Destination) -> None:
    destination.config["api_key"] = "sk_canary"

    code, printed = destination.write(a_catalog(), a_record(1), a_state(1))

    (error,) = errors_in(printed)
    assert (code, error["failure_type"]) == (1, "config_error")
    assert "canary" not in printed
    assert messages_in(printed, "STATE") == []


def test_dead_letters_are_sent_again_by_the_singer_target(
    destination: Destination, sandbox: Sandbox
) -> None:
    stream = a_stream(primary_key=[["user", "id"]], namespace="public")
    record = a_record(1, namespace="public", data={"user": {"id": 1}, "email": "bad"})
    assert destination.write(a_catalog(stream), record)[0] == 0
    fixed = {"email": "fixed@example.com"}
    destination.config["signals"] = [{"stream": "public-users", "contact": fixed}]
    path = destination.folder / "config.json"
    path.write_text(json.dumps(destination.config))

    export = ["dead-letters", "export", "--config", str(path)]
    exported = CliRunner().invoke(signals_command, export).stdout
    target = TargetUnderTest(destination.folder, sandbox.url)
    replay = target.run_text(exported, signals=destination.config["signals"])

    assert replay.outcomes == {"accepted": 1}
    emails = [signal.body["contact"]["email"] for signal in sandbox.signals]
    assert emails == ["fixed@example.com"]


@pytest.mark.parametrize("name", ["config.json", "catalog.json"])
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", ", line 1, column 2: not JSON. [E009]"),
        ('{"a":' * 500 + "1" + "}" * 500, ": it is nested too deeply. [E351]"),
    ],
    ids=["cut", "deep"],
)
def test_error_for_a_file_that_is_not_json(
    destination: Destination, name: str, content: str, problem: str
) -> None:
    folder = destination.folder
    options = {"config.json": "{}", "catalog.json": '{"streams": []}'} | {name: content}
    for file, text in options.items():
        (folder / file).write_text(text)

    files = ["--config", str(folder / "config.json")]
    files += ["--catalog", str(folder / "catalog.json")]
    code, printed = run_connector(main, ["write", *files])

    (error,) = errors_in(printed)
    assert (code, error["failure_type"]) == (1, "config_error")
    assert f"The {name.partition('.')[0]}{problem}" == error["message"]


def test_spec_needs_neither_the_singer_sdk_nor_a_database() -> None:
    code = (
        "import sys, stairoids_airbyte.destination_command as c;"
        "c.main(['spec'], standalone_mode=False);"
        "heavy = {'singer_sdk', 'sqlalchemy', 'requests'} & set(sys.modules);"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_full_disk_behind_stdout_ends_the_sync_with_exit_code_1() -> None:
    command = [str(BIN / "destination-stairoids"), "spec"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )

    assert done.returncode == 1
    assert done.stderr.startswith(b"stdout cannot be written: No space left")
