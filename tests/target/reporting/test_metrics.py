"""`metrics_path` has the figures of the last run for Prometheus."""

from __future__ import annotations

import fcntl
import json
import os
import re
import resource
import threading
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stairoids_common.time import parse_time
from tests.support.commands import signals
from tests.support.singer_io import TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox


def figures_in(path: Path) -> dict[tuple[str, str], float]:
    """Return the value of each gauge by its name and the outcome it counts."""
    return {
        (s.name.removeprefix("stairoids_signals_"), s.labels.get("outcome", "")): (
            s.value
        )
        for family in text_string_to_metric_families(path.read_text())
        for s in family.samples
        if (s.labels["namespace"], s.labels["source"]) == ("eu", "billing")
    }


def test_metrics_file_has_the_figures_of_the_last_run(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "signals.prom"
    config = {"metrics_path": str(path), "namespace": "eu", "source": "billing"}

    target.run(a_schema(), a_record(1), a_record(2, email="nobody"), **config)
    first = figures_in(path)
    config["max_signals_per_run"] = "1"
    failed = target.run(a_schema(), a_record(3), a_record(4), **config)
    second = figures_in(path)

    assert failed.exit_code == 75
    assert first["last_run_exit_code", ""] == 0
    assert first["last_run_signals", "accepted"] == 1
    assert first["last_run_signals", "invalid"] == 1
    assert first["last_run_records", ""] == 2
    assert first["dead_letters", ""] == 1
    success = first["last_success_timestamp_seconds", ""]
    assert abs(success - first["last_run_timestamp_seconds", ""]) < 60
    assert second["last_run_exit_code", ""] == 75
    assert second["last_run_signals", "pending"] == 1
    assert second["last_success_timestamp_seconds", ""] == success
    assert second["oldest_dead_letter_timestamp_seconds", ""] > 0
    ended = parse_time(target.report()["ended_at"]).timestamp()
    assert second["last_run_timestamp_seconds", ""] == ended
    assert [file.name for file in path.parent.iterdir()] == ["signals.prom"]


def test_dry_run_leaves_the_metrics_file_alone(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    path = tmp_path / "signals.prom"

    target.run(a_schema(), a_record(1), metrics_path=str(path), dry_run=True)

    assert not path.exists()


def test_metrics_file_that_cannot_be_written_is_an_error_after_the_run(
    sandbox: Sandbox, target: TargetUnderTest, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()

    run = target.run(a_schema(), a_record(1), metrics_path=f"{tmp_path}/file/x.prom")

    assert run.exit_code == 1
    assert "`metrics_path` cannot be written" in run.error
    assert f"(`{tmp_path}/file/x.prom`)" in run.error
    assert len(sandbox.signals) == 1


def test_file_that_cannot_be_written_hides_no_exit_code_and_no_other_file(
    target: TargetUnderTest, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    path = tmp_path / "x.prom"
    config = {"report_path": f"{tmp_path}/file/x.json", "metrics_path": str(path)}
    records = a_schema(), a_record(1), a_record(2)

    incomplete = target.run(*records, **config, max_signals_per_run=1)
    assert (incomplete.exit_code, path.exists()) == (75, True)
    assert "`report_path` cannot be written" in caplog.text
    path.unlink()
    whole = target.run(*records, **config)

    assert (whole.exit_code, path.exists()) == (1, True)
    assert "`report_path` cannot be written" in whole.error
    assert re.search("last_run_exit_code{.*} 1.0", path.read_text())


@pytest.mark.parametrize("name", ["report_path", "metrics_path"])
@pytest.mark.parametrize("limit", [None, 1])
def test_ledger_has_the_exit_code_of_a_run_whose_file_cannot_be_written(
    target: TargetUnderTest, tmp_path: Path, name: str, limit: int | None
) -> None:
    (tmp_path / "file").touch()
    config = {name: f"{tmp_path}/file/x.prom", "max_signals_per_run": limit}

    run = target.run(a_schema(), *map(a_record, (1, 2)), **config)
    forgiven = target.run(
        a_schema(), *map(a_record, (3, 4)), **config, on_incomplete="succeed"
    )

    code = 1 if limit is None else 75
    assert (run.exit_code, forgiven.exit_code) == (code, code)
    done = signals(target, "report", "--format", "json")
    runs = json.loads(done.stdout)["runs"]
    assert [past["exit_code"] for past in runs] == [code, code]


def test_pipe_that_a_setting_names_gets_the_text_and_stays(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    os.mkfifo(path := tmp_path / "pipe.prom")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    for name in ("report_path", "metrics_path"):
        target.run(a_schema(), a_record(1), **{name: str(path)})
        text = os.read(reader, 65536)
        assert json.loads(text) if name == "report_path" else b"# HELP" in text
        assert path.is_fifo()
    os.close(reader)
    unread = target.run(a_schema(), a_record(1), metrics_path=str(path))
    assert unread.exit_code == 1  # and does not wait for a reader


@pytest.mark.slow
def test_slow_reader_of_a_pipe_gets_the_whole_report(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)  # a small pipe is full at once
    os.set_blocking(reader, True)
    many = [m for n in range(200) for m in (a_schema(f"s{n}"), a_record(n, f"s{n}"))]
    text = b""

    def read() -> None:
        nonlocal text
        while not text.endswith(b"\n}\n"):
            text += os.read(reader, 1000)

    thread = threading.Thread(target=read)
    thread.start()
    run = target.run(*many, report_path=str(path), dry_run=True)
    thread.join()
    os.close(reader)

    assert (run.exit_code, json.loads(text)["signals"]) == (0, 200)
    assert len(text) > 4096


def test_run_in_a_process_with_many_open_files_reads_and_reports(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    os.mkfifo(path := tmp_path / "pipe")
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("this user may not open so many files")
    files = [os.dup(reader) for _ in range(1024)]  # `select` refuses the next ones

    run = target.run(a_schema(), a_record(1), report_path=str(path))
    text = os.read(reader, 65536)
    for number in [reader, *files]:
        os.close(number)

    assert (run.exit_code, json.loads(text)["signals"]) == (0, 1)


def test_link_to_a_file_that_a_setting_names_stays(
    target: TargetUnderTest, tmp_path: Path
) -> None:
    link = tmp_path / "link.prom"
    link.symlink_to(tmp_path / "real.prom")

    target.run(a_schema(), a_record(1), metrics_path=str(link))

    assert link.is_symlink()
    assert "# HELP" in (tmp_path / "real.prom").read_text()
