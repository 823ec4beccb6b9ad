"""`tap-stairoids-signals` emits each accepted signal, run and dead letter."""

from __future__ import annotations

import json
import shutil
import tempfile
from hashlib import sha256
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from singer_sdk.testing import SuiteConfig, get_tap_test_class

from target_stairoids.dedup.outcome import Outcome
from target_stairoids.ledger.outcomes import write_outcomes
from target_stairoids.reporting.report import Report
from target_stairoids.sync_log.tap import TapStairoidsSignals
from tests.support.commands import signals
from tests.support.ledger_builders import (
    API,
    SIGNAL,
    a_dead_letter,
    a_version,
    accept,
    accepted,
    add_dead_letters,
    opened,
    settle,
)
from tests.support.singer_io import TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


def _filled(url: str) -> str:
    with opened(url) as ledger:
        accept(ledger, 1)
        dead_letter = a_dead_letter(a_version(), key_values="[2]", request_id="req_1")
        add_dead_letters(ledger, dead_letter)
        report = Report().as_dict(exit_code=75, requests=1, quota=60)
        ledger.end_run(75, report, reason="1 signal is pending.")
    return url


_FOLDER = tempfile.TemporaryDirectory()  # the suite wants its config on import
TestStandardSuite = get_tap_test_class(
    TapStairoidsSignals,
    config={"ledger_url": _filled(f"sqlite:///{_FOLDER.name}/ledger.db")},
    suite_config=SuiteConfig(),
)


class Tap:
    """The tap over one ledger; it keeps its state as Meltano does."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.config = {"ledger_url": url}
        self.state: dict[str, Any] = {}
        self.log = ""

    def __call__(self, stream: str = "signals") -> list[dict[str, Any]]:
        """Run with the state of the last run; return the records of a stream."""
        for name, content in (("tap", self.config), ("state", self.state)):
            (self.folder / f"{name}.json").write_text(json.dumps(content))
        words = [f"--{n}={self.folder / f}.json" for n, f in self.files]
        done = CliRunner().invoke(TapStairoidsSignals.get_singer_command(), words)
        assert done.exit_code == 0, done.output
        self.log = done.stderr
        messages = [json.loads(line) for line in done.stdout.splitlines()]
        for message in messages:
            if message["type"] == "STATE":
                self.state = message["value"]
        found = [m for m in messages if m["type"] == "RECORD"]
        return [m["record"] for m in found if m["stream"] == stream]

    files = (("config", "tap"), ("state", "state"))

    def ids(self) -> list[str]:
        """Run; return the ids of the signals."""
        return [record["signal_id"] for record in self()]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def tap(tmp_path: Path, url: str) -> Tap:
    return Tap(tmp_path, url)


def test_log_of_a_run_has_signals_the_run_and_dead_letters(
    sandbox: Sandbox, target: TargetUnderTest, tap: Tap
) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email="nobody"), namespace="eu")

    (signal,) = tap()
    tap.state = {}
    (run,) = tap("runs")
    (dead,) = tap("dead_letters")

    (sent,) = sandbox.signals
    assert signal["signal_id"] == sent.id
    assert (signal["type"], signal["source"]) == ("trials", "singer")
    assert (signal["stream"], signal["run"]) == ("trials", run["run"])
    assert (signal["key"], dead["key"]) == ("[1]", "[2]")
    assert signal["key_digest"] == sha256(b"[1]").hexdigest()
    assert (signal["namespace"], run["namespace"]) == ("eu", "eu")
    assert (run["read"], run["accepted"], run["invalid"]) == (2, 1, 1)
    assert run["ended_at"] > signal["accepted_at"] > run["started_at"]
    assert (dead["stream"], dead["attempts"]) == ("trials", 1)
    assert "email" in dead["reason"]


def test_second_run_of_the_tap_has_later_records_only(url: str, tap: Tap) -> None:
    with opened(url) as ledger:
        accept(ledger, 1)
        first, second = tap.ids(), tap.ids()
        accept(ledger, 2)
        third = tap.ids()

    assert (first, second, third) == (["sig_1"], [], ["sig_2"])


def test_run_that_ends_is_emitted_again(url: str, tap: Tap) -> None:
    with opened(url) as ledger, opened(url) as other:
        started = tap("runs")
        ledger.end_run(0, Report().as_dict(exit_code=0, requests=0, quota=None))
        ended = tap("runs")
        assert other.run == 2

    assert [(r["run"], r["exit_code"]) for r in started] == [(1, None), (2, None)]
    assert [(r["run"], r["exit_code"]) for r in ended] == [(1, 0)]


def test_state_that_was_sent_again_is_a_second_signal(url: str, tap: Tap) -> None:
    with opened(url) as ledger:
        for signal_id in ("sig_1", "sig_2"):
            ids = signal_id, None, None
            settle(ledger, a_version(), request=SIGNAL, ids=ids)

    assert tap.ids() == ["sig_1", "sig_2"]


def test_copy_of_the_ledger_that_was_put_back_is_read_from_its_start(
    tmp_path: Path, url: str, tap: Tap
) -> None:
    with opened(url) as ledger:
        accept(ledger, 1)
    shutil.copy(tmp_path / "ledger.db", tmp_path / "copy.db")
    with opened(url) as ledger:
        accept(ledger, 2)
        accept(ledger, 3)
    assert tap.ids() == ["sig_1", "sig_2", "sig_3"]
    for file in tmp_path.glob("ledger.db*"):
        file.unlink()
    (tmp_path / "copy.db").rename(tmp_path / "ledger.db")
    with opened(url) as ledger:
        for number in range(4, 8):
            accept(ledger, number)

    assert tap.ids() == ["sig_1", "sig_4", "sig_5", "sig_6", "sig_7"]
    assert tap.ids() == []


@pytest.mark.parametrize("value", ["x", True, -1, 2.5, 2**63, [1], {"a": 1}])
def test_bookmark_that_is_no_number_of_a_ledger_is_read_from_its_start(
    url: str, tap: Tap, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(url) as ledger:
        accept(ledger, 1)
    tap()
    tap.state["bookmarks"]["signals"]["replication_key_value"] = value

    assert tap.ids() == ["sig_1"]
    assert "Stream `signals` is read from its start" in caplog.text


@pytest.mark.slow
def test_writers_on_postgresql_are_emitted_in_the_order_of_their_commits(
    tmp_path: Path, postgres_url: str
) -> None:
    tap = Tap(tmp_path, postgres_url)
    with opened(postgres_url) as one, opened(postgres_url) as other:
        late = Thread(target=accept, args=(other, 2))
        with one.transaction() as transaction:
            write_outcomes(transaction, [accepted(1)])
            late.start()  # it waits for the open transaction
            during = tap.ids()
        late.join()

        assert during == []
        assert tap.ids() == ["sig_1", "sig_2"]


def test_bookmark_holds_after_a_move_to_postgresql(
    sandbox: Sandbox, target: TargetUnderTest, tap: Tap, postgres_url: str
) -> None:
    target.run(a_schema(), a_record(1), a_record(2, email="nobody"))
    assert len(tap.ids()) == 1

    moved = signals(target, "ledger", "copy", "--to", postgres_url)
    tap.config["ledger_url"] = postgres_url
    target.run(a_schema(), a_record(1), a_record(3), ledger_url=postgres_url)

    assert moved.returncode == 0, moved.stderr
    assert tap.ids() == [sandbox.signals[1].id]
    assert "read from its start" not in tap.log
    assert len(tap("dead_letters")) == 1


def test_key_has_the_json_that_databases_write(
    target: TargetUnderTest, tap: Tap
) -> None:
    schema = a_schema(key=["id", "region"], region="string")

    target.run(schema, a_record(1, region='ü"'))

    assert tap()[0]["key"] == '[1,"ü\\""]'


def test_without_keep_keys_the_ledger_has_digests_only(
    tmp_path: Path, target: TargetUnderTest, tap: Tap
) -> None:
    records = a_record(1, code="canary-7"), a_record(2, code="canary-8", email="?")
    schema = a_schema(key=["code"], code="string")

    target.run(schema, *records, keep_keys=False, keep_records=False)

    (signal,), (dead,) = tap(), Tap(tmp_path, tap.config["ledger_url"])("dead_letters")
    assert (signal["key"], dead["key"]) == (None, None)
    assert signal["key_digest"] == sha256(b'["canary-7"]').hexdigest()
    assert dead["key_digest"] == sha256(b'["canary-8"]').hexdigest()
    files = [file.read_bytes() for file in tmp_path.glob("ledger.db*")]
    assert not any(b"canary" in content for content in files)


def test_erasure_removes_keys_with_the_address(
    tmp_path: Path, target: TargetUnderTest, tap: Tap
) -> None:
    target.run(a_schema(key=["email"]), a_record(1), a_record(2))

    done = signals(target, "ledger", "erase", "--email", "u1@example.com", "--yes")

    assert "Erased 1 claim, dead letter or key" in done.stdout
    assert [record["key"] for record in tap()] == [None, '["u2@example.com"]']
    files = [file.read_bytes() for file in tmp_path.glob("ledger.db*")]
    assert not any(b"u1@example.com" in content for content in files)


def test_dead_letter_that_a_person_resolved_is_a_signal_without_id(
    url: str, tap: Tap
) -> None:
    with opened(url) as ledger:
        dead_letter = a_dead_letter(
            a_version(), outcome=Outcome.UNKNOWN, request=SIGNAL
        )
        settle(ledger, a_version(), outcome=Outcome.UNKNOWN)
        add_dead_letters(ledger, dead_letter)
    target = TargetUnderTest(tap.folder, API, namespace="eu")

    done = signals(target, "dead-letters", "resolve", "1", "--delivered")

    assert done.returncode == 0, done.stderr
    assert [(s["signal_id"], s["type"]) for s in tap()] == [(None, "trial")]


def test_missing_ledger_is_one_sentence_and_nothing_is_created(tmp_path: Path) -> None:
    config = tmp_path / "tap.json"
    config.write_text(json.dumps({"ledger_url": f"sqlite:///{tmp_path}/no/ledger.db"}))
    command = TapStairoidsSignals.get_singer_command()

    done = CliRunner().invoke(command, [f"--config={config}"])
    discovered = CliRunner().invoke(command, [f"--config={config}", "--discover"])

    assert done.exit_code == 1
    assert done.stdout == ""  # a SCHEMA could empty a table of the warehouse
    assert not (tmp_path / "no").exists()
    streams = [s["stream"] for s in json.loads(discovered.stdout)["streams"]]
    assert streams == ["dead_letters", "runs", "signals"]
