"""The tap emits every stored event once."""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from tap_stairoids_webhooks.signature import key_id_of
from tap_stairoids_webhooks.store.erasure import Person, erase
from tap_stairoids_webhooks.store.store import EventStore
from tap_stairoids_webhooks.tap import TapStairoidsWebhooks
from tests.support.forks import forked, programs
from tests.support.paths import ROOT
from tests.support.running_tap import TYPES, Output, Runner, descriptors_of, fill
from tests.support.webhook_builders import (
    EMAIL,
    SECRET,
    a_body,
    a_delivery,
    an_action_body,
    deliveries,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

TAP = Path(sys.executable).with_name("tap-stairoids-webhooks")
DOCS = ROOT / "docs"
needs_proc = pytest.mark.skipif(
    not Path("/proc/self/fd").is_dir(), reason="this system has no list of open files"
)
_FOLDER = tempfile.TemporaryDirectory()  # the suite wants its config on import
_CONFIG = {"store_url": f"sqlite:///{_FOLDER.name}/webhooks.db"}
fill(_CONFIG["store_url"])
# The suite warns, and so fails, where no record has a value for an attribute:
# so one event more is stored, and erased.
with EventStore.create(_CONFIG["store_url"]) as _store:
    _store.append([a_delivery(a_body("evt_gone", data={"email": "gone@example.com"}))])
assert erase(_CONFIG["store_url"], Person(email="gone@example.com"))

TestStandardSuite = get_tap_test_class(
    TapStairoidsWebhooks, config=_CONFIG, suite_config=SuiteConfig()
)


@pytest.mark.usefixtures("filled")
def test_event_is_in_events_and_in_its_own_stream(run: Runner) -> None:
    output = run()

    assert output.exit_code == 0
    assert output.sequences("events") == list(range(1, 11))
    assert output.sequences("signal_created") == [1, 10]
    assert output.sequences("automation_triggered") == [5]
    assert output.sequences("automation_action_triggered") == [6, 7]
    assert output.sequences("malformed_events") == [9]


@pytest.mark.usefixtures("filled")
def test_record_has_the_event_unchanged(run: Runner) -> None:
    output = run()

    first, *_, malformed, conflict = output.records("events")
    assert first["payload"] == json.loads(a_body("evt_0", TYPES[0]))
    assert (first["event"], first["event_id"]) == ("signal.created", "evt_0")
    assert first["delivery_id"] == "d-1"
    assert (malformed["payload"], malformed["malformed"]) == (None, "not a JSON object")
    assert (conflict["event_id"], conflict["conflict"]) == ("evt_0", True)
    (body,) = output.records("malformed_events")
    assert (body["body_base64"], body["reason"]) == ("WzFd", "not a JSON object")


@pytest.mark.usefixtures("filled")
def test_account_contact_and_signal_may_be_null(run: Runner) -> None:
    with_signal, without = run().records("automation_action_triggered")

    assert with_signal["signal"]["id"] == "sig_1"
    assert (without["signal"], without["contact"]) == (None, None)


def test_run_resumes_after_its_bookmark(run: Runner, filled: str) -> None:
    first = run()
    nothing = run(state=first.state)
    with EventStore.create(filled) as store:
        store.append([a_delivery(a_body("evt_late")), a_delivery(an_action_body("x"))])
    later = run(state=nothing.state)

    assert nothing.sequences() == []
    assert nothing.state == first.state
    assert later.sequences("events") == [11, 12]
    assert later.sequences("signal_created") == [11]
    assert later.sequences("automation_action_triggered") == [12]
    assert later.sequences("malformed_events") == []


def test_numbers_pass_exactly(run: Runner, store: EventStore) -> None:
    body = b'{"event":"x","a":1.10,"b":12345678901234567890123,"c":0.1,"d":1E+400}'
    store.append([a_delivery(body)])

    as_it_came = run().lines
    run.config["stream_maps"] = {"events": {"more": "'x'"}}
    mapped = run().lines

    assert f'"payload":{body.decode()}' in as_it_came
    assert f'"payload":{body.decode()}' in mapped


@pytest.mark.usefixtures("filled")
def test_deselected_stream_is_left_out(run: Runner, tmp_path: Path) -> None:
    catalog = json.loads(run("--discover").lines)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            if entry["breadcrumb"] == []:
                entry["metadata"]["selected"] = stream["stream"] == "signal_created"
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))

    output = run("--catalog", str(tmp_path / "catalog.json"))

    assert output.sequences("events") == []
    assert output.sequences("signal_created") == [1, 10]


@pytest.mark.usefixtures("filled")
def test_full_table_run_emits_all_records_after_the_same_state(
    run: Runner, tmp_path: Path
) -> None:
    catalog = json.loads(run("--discover").lines)
    for stream in catalog["streams"]:
        stream["replication_method"] = "FULL_TABLE"
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))
    first = run()

    again = run("--catalog", str(tmp_path / "catalog.json"), state=first.state)

    for stream in catalog["streams"]:
        name = stream["stream"]
        assert again.sequences(name) == first.sequences(name)


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: not JSON; write it again with --discover"),
        ('{"streams": [', "not JSON; write it again with --discover"),
        ("[]", "not a JSON object; write it again with --discover"),
        ("{}", "not a catalog; write it again with --discover"),
        ('{"streams": [null]}', "not a catalog; write it again"),
        ('{"streams": [{"tap_stream_id": "events"}]}', "not a catalog; write it again"),
        (
            '{"streams": [{"tap_stream_id": "events", "schema": {"properties": {}}}]}',
            "not a catalog; write it again",
        ),
        (
            '{"streams": [{"tap_stream_id": "a", "schema": {"properties": {"b": 7}}}]}',
            "not a catalog; write it again",
        ),
    ],
)
def test_odd_catalog_is_one_sentence(
    run: Runner, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "catalog.json").write_text(text)

    output = run("--catalog", str(tmp_path / "catalog.json"))

    assert output.exit_code == 1
    assert message in output.log
    assert "Traceback" not in output.log


def test_replication_key_of_a_catalog_is_always_that_of_the_stream(
    run: Runner, filled: str, tmp_path: Path
) -> None:
    catalog = json.loads(run("--discover").lines)
    for stream in catalog["streams"]:
        stream["replication_key"] = "received_at"
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))

    first = run("--catalog", str(tmp_path / "catalog.json"))
    with EventStore.open(filled) as store:
        store.append([a_delivery(a_body("evt_later"))])
    second = run("--catalog", str(tmp_path / "catalog.json"), state=first.state)

    last = first.sequences()[-1]
    assert second.sequences() == [last + 1]


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize(
    ("name", "expression", "message"),
    [
        ("number", "int(key_id)", "an expression of its `stream_maps` fails for a"),
        ("__filter__", "int(key_id)", "an expression of its `stream_maps` fails for a"),
        ("number", "1 +", "its `stream_maps` in the config are wrong"),
        ("number", "lowr(event)", "`number`: there is no function `lowr`"),
        ("number", "evnt", "there is no column `evnt`; did you mean `event`? [E332]"),
    ],
)
def test_wrong_stream_map_is_one_sentence_without_values(
    run: Runner, name: str, expression: str, message: str
) -> None:
    run.config["stream_maps"] = {"events": {name: expression}}

    output = run()

    assert output.exit_code == 1
    assert message in output.log
    assert "Traceback" not in output.log
    assert key_id_of(SECRET) not in output.log


@pytest.mark.usefixtures("filled")
def test_stream_map_of_no_stream_is_warned_about(run: Runner) -> None:
    run.config["stream_maps"] = {name: {"x": "'y'"} for name in ("evnts", "even*")}

    output = run()

    assert output.exit_code == 0
    named = re.findall(r"No stream matched `(.*)` in .*; did .* `events`\?", output.log)
    assert named == ["evnts"]
    assert "[E501]" in output.log


@pytest.mark.usefixtures("filled")
def test_stream_near_a_misspelt_stream_map_is_refused(run: Runner) -> None:
    run.config["stream_maps"] = {"evnts": {"payload": None}}

    output = run()

    assert output.exit_code == 1
    assert "`evnts` is nearly the stream `events`, and matched no stream" in output.log
    assert "[E505]" in output.log
    assert output.records("events") == []


def test_event_that_cannot_be_flattened_is_one_sentence(
    run: Runner, store: EventStore
) -> None:
    odd = {"additionalProperties": "x", "properties": {"b": [1]}}
    store.append([a_delivery(a_body("evt_1", data=odd))])
    run.config |= {"flattening_enabled": True, "flattening_max_depth": 3}

    output = run()

    assert output.exit_code == 1
    assert "does not fit the flattening of its SCHEMA" in output.log
    assert "Traceback" not in output.log


def test_full_disk_behind_stdout_is_one_sentence(
    store: EventStore, store_url: str, tmp_path: Path
) -> None:
    store.append(deliveries(500))
    (tmp_path / "tap.json").write_text(json.dumps({"store_url": store_url}))
    command = f"{programs()}/tap-stairoids-webhooks --config tap.json"

    done = subprocess.run(
        ["sh", "-c", f"ulimit -f 128; {command} >full.jsonl"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert "stdout cannot be written: File too large. Run again." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.usefixtures("filled")
def test_target_stairoids_infers_no_stream_of_the_tap(
    run: Runner, tmp_path: Path
) -> None:
    config = {"api_key": "sk_test", "source": "loop", "dry_run": True}
    (tmp_path / "target.json").write_text(json.dumps(config))

    done = subprocess.run(
        forked(["target-stairoids", "--config", tmp_path / "target.json"]),
        input=run().lines,
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stderr
    assert "would send" not in done.stderr
    for stream in ("events", "signal_created", "automation_action_triggered"):
        assert f"Stream `{stream}` is left out, because it has" in done.stderr


@pytest.mark.usefixtures("filled")
def test_deselected_field_is_left_out(run: Runner, tmp_path: Path) -> None:
    catalog = json.loads(run("--discover").lines)
    for stream in catalog["streams"]:
        for entry in stream["metadata"]:
            entry["metadata"]["selected"] = "payload" not in entry["breadcrumb"]
    (tmp_path / "catalog.json").write_text(json.dumps(catalog))

    records = run("--catalog", str(tmp_path / "catalog.json")).records("events")

    assert len(records) == 10
    assert all("payload" not in record for record in records)


@pytest.mark.usefixtures("filled")
def test_stream_maps_and_flattening_see_the_payload(run: Runner) -> None:
    run.config["stream_maps"] = {"events": {"contact": "payload['data']['id']"}}
    run.config["stream_maps"]["events"]["__filter__"] = "event == 'signal.scored'"
    mapped = run().records("events")
    run.config["stream_maps"] = {}
    run.config |= {"flattening_enabled": True, "flattening_max_depth": 2}
    flattened = run().records("events")

    assert [record["contact"] for record in mapped] == ["sig_1"]
    assert flattened[0]["payload__data__id"] == "sig_1"


def test_body_over_several_lines_is_one_line(run: Runner, store: EventStore) -> None:
    payload = {"event": "x", "text": "a\nb"}
    store.append([a_delivery(json.dumps(payload, indent=2).encode())])
    store.append([a_delivery(b'{"event": "x",\r"a": 1}')])

    payloads = [record["payload"] for record in run().records("events")]

    assert payloads == [payload, {"event": "x", "a": 1}]


def test_damaged_row_is_malformed(run: Runner, filled: str) -> None:
    with closing(sqlite3.connect(filled.removeprefix("sqlite:///"))) as db, db:
        db.execute("UPDATE webhook_events SET body = x'7b22' WHERE sequence = 2")

    damaged = run().records("events")[1]

    assert (damaged["payload"], damaged["malformed"]) == (None, "not JSON (byte 1)")


@needs_proc
@pytest.mark.parametrize(
    ("arguments", "state"),
    [
        ([], None),
        (["--test"], None),
        (["--discover"], None),
        ([], {"bookmarks": {"events": {"replication_key_value": 10**6}}}),
    ],
    ids=["run", "test", "discovery", "refused state"],
)
def test_store_is_closed(
    run: Runner, filled: str, arguments: list[str], state: object
) -> None:
    run(*arguments, state=state)

    assert descriptors_of(filled) == []


@pytest.mark.usefixtures("filled")
def test_connection_test_succeeds(run: Runner) -> None:
    assert run("--test").exit_code == 0


def test_missing_store_is_an_error_with_a_remedy(run: Runner) -> None:
    for arguments in ((), ("--test",)):
        output = run(*arguments)

        assert output.exit_code == 1
        assert "stairoids-webhooks serve" in output.log
        assert "store_url" in output.log
        assert "Traceback" not in output.log


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"stor_url": "x"}, "`stor_url` is not a setting; did you mean `store_url`?"),
        ({"store_url": ["hunter2"]}, "`store_url` must be of type string"),
        ({"store_url": "mysql://u:hunter2@h/d"}, "must name SQLite or"),
        ({"secrets": "hunter2"}, "`secrets` must be of type array"),
        ({"secrets": [["hunter2"]]}, "`secrets[0]` must be of type string"),
        ({"secrets": []}, "`secrets` must not be empty"),
        ({"secrets": ["hunter2", ""]}, "`secrets[1]` must not be empty"),
        ({"secrets": ["a", "hunter2\n"]}, "`secrets` begins or ends with white space"),
        ({"on_store_reset": "ignore"}, "`on_store_reset` must be one of"),
    ],
)
def test_wrong_config_is_named_without_its_values(
    run: Runner, config: dict[str, Any], message: str
) -> None:
    run.config |= config

    output = run()

    assert output.exit_code == 1
    assert message in output.log
    assert "hunter2" not in output.log
    assert "Traceback" not in output.log


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "config.json: no such file"),
        ('{"store_url":\n', "config.json, line 2, column 1: not JSON"),
    ],
)
def test_unreadable_config_is_one_line(
    run: Runner, tmp_path: Path, text: str | None, message: str
) -> None:
    config = tmp_path / "wrong" / "config.json"
    config.parent.mkdir()
    if text is not None:
        config.write_text(text)

    output = run.with_arguments("--config", str(config))

    assert output.exit_code == 1
    assert message in output.log
    assert "Traceback" not in output.log


@pytest.mark.usefixtures("filled")
def test_log_holds_nothing_personal(run: Runner) -> None:
    run.config["secrets"] = [SECRET]

    output = run()

    assert EMAIL not in output.log
    assert SECRET not in output.log


@pytest.fixture
def big(store: EventStore, store_url: str) -> str:
    for start in range(0, 6_000, 2_000):
        store.append(
            [
                a_delivery(a_body(f"evt_{n}", "x", pad="x" * 500))
                for n in range(start, start + 2_000)
            ]
        )
    return store_url


def lines_until_record(stdout: IO[str]) -> Iterator[str]:
    for line in stdout:
        yield line
        if '"RECORD"' in line:
            return


@pytest.mark.slow
@pytest.mark.usefixtures("big")
def test_terminated_run_leaves_a_true_state(run: Runner) -> None:
    """The pipe is full when SIGTERM arrives, as with a slow target."""
    with subprocess.Popen(
        [TAP, *run.arguments()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        begun = list(lines_until_record(process.stdout))
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()  # communicate() would lose the buffer

    first = Output(process.returncode, "".join(begun) + rest, "")
    second = run(state=first.state)

    assert first.exit_code == 128 + signal.SIGTERM
    assert 0 < len(first.sequences()) < 6_000
    assert first.sequences() + second.sequences() == list(range(1, 6_001))


def test_command_reads_its_environment(filled: str) -> None:
    """The log level of the plugin wins over the general one."""
    env = {
        "TAP_STAIROIDS_WEBHOOKS_STORE_URL": filled,
        "TAP_STAIROIDS_WEBHOOKS_LOGLEVEL": "warning",
        "LOGLEVEL": "debug",
    }
    done = subprocess.run(
        forked([TAP, "--config", "ENV"]),
        env=os.environ | env,
        capture_output=True,
        text=True,
        check=True,
    )

    output = Output(done.returncode, done.stdout, done.stderr)
    assert output.sequences() == list(range(1, 11))
    assert output.log == ""


@pytest.mark.slow
@pytest.mark.usefixtures("filled")
def test_documented_log_config_makes_json_without_metrics(
    run: Runner, tmp_path: Path
) -> None:
    page = (DOCS / "deploy/logs.md").read_text(encoding="utf-8")
    (text,) = re.findall(
        r"^```yaml\n(version: 1\n.*?)^```", page, re.DOTALL | re.MULTILINE
    )
    (tmp_path / "logging.yaml").write_text(text)
    run.config["consumer"] = "warehouse"

    done = subprocess.run(
        [TAP, *run.arguments()],
        env=os.environ | {"SINGER_SDK_LOG_CONFIG": str(tmp_path / "logging.yaml")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    messages = [json.loads(line)["message"] for line in done.stderr.splitlines()]
    assert "Acknowledged as warehouse: {'*': 0, 'malformed': 0" in " ".join(messages)
    assert "METRIC" not in done.stderr


@pytest.mark.slow
def test_reading_does_not_load_the_web_side() -> None:
    code = (
        "import sys, tap_stairoids_webhooks.tap as _;"
        "print({'uvicorn', 'starlette', 'sqlalchemy'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("text", ["", '{"bookmarks": {'])
def test_unreadable_state_is_one_sentence(
    run: Runner, tmp_path: Path, text: str
) -> None:
    (tmp_path / "broken.json").write_text(text)

    output = run("--state", str(tmp_path / "broken.json"))

    assert output.exit_code == 1
    assert output.messages == []
    assert "broken.json, line 1, column " in output.log
    assert "put the last state back, or `{}`" in output.log
    assert "Traceback" not in output.log
