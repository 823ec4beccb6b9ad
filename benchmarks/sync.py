"""Syncs: reading records for the first time, again, and touched but unchanged.

Whole processes run in turn. `target-stairoids` has no signals to send. The baselines
are the SDK's empty `RecordSink` with default and fastest settings, the empty sink of a
fork, and programs that only parse.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.environment import NotInstalledError, python_with
from benchmarks.figures import Figure, in_turn, median_ratio
from benchmarks.inputs import write_contacts
from benchmarks.processes import BIN, mebibytes, seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.figures import Scope

#: Run with the name of the module that the SDK, or a fork of it, is installed as.
EMPTY_TARGET = """
import importlib, sys

sdk = importlib.import_module(sys.argv[1])

class EmptySink(sdk.RecordSink):
    def process_record(self, record, context):
        pass

class EmptyTarget(sdk.Target):
    name = "target-empty"
    default_sink_class = EmptySink
    if "fast" in sys.argv:
        from singer_sdk.contrib.msgspec import MsgSpecReader as message_reader_class

config = {"validate_records": False} if "fast" in sys.argv else {}
EmptyTarget(config=config).listen()
"""
DECODE = """
import sys, msgspec
decoder = msgspec.json.Decoder()
for line in sys.stdin.buffer:
    decoder.decode(line)
"""
ORJSON = """
import sys, orjson
for line in sys.stdin.buffer:
    orjson.loads(line)
"""
HOTGLUE = Path(__file__).with_name("hotglue.txt")
#: The baselines of a repeated sync besides the SDK.
OTHERS = {
    "hotglue": "the empty `RecordSink` of hotglue-singer-sdk",
    "orjson": "nothing but `orjson.loads` of each line",
}
EXPLICIT = {
    "stream": "crm-contacts",
    "type": "contact",
    "source": "crm",
    "account": {"domain": "{{ website }}", "name": "{{ company }}"},
    "contact": {"email": "{{ email }}"},
    "properties": ["stage", "plan", "city", "seats", "mrr", "updated_at"],
}
CONFIGS: dict[str, dict[str, Any]] = {
    "inferred mapping": {},
    "explicit mapping": {"signals": [EXPLICIT]},
    "with `stream_maps`": {"stream_maps": {"crm-contacts": {"city": "city.upper()"}}},
}
LESS_THAN_ALL = 0.2  # of the records, to measure how memory grows


class Ours:
    """`target-stairoids` with a config and a ledger of its own.

    It makes no request: a baseline sends nothing, and later runs have no changes.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        folder.mkdir()
        self._ledger = folder / "ledger.db"
        self._learned = folder / "learned.db"
        self._config = folder / "config.json"
        self._config.write_text(
            json.dumps(
                {
                    "api_url": "http://127.0.0.1:9/v1",
                    "api_key": "not used",
                    "ledger_url": f"sqlite:///{self._ledger}",
                    "first_run": "baseline",
                    **settings,
                }
            )
        )

    def first(self, records: Path) -> float:
        """Return how long it takes to learn all records."""
        self._ledger.unlink(missing_ok=True)
        taken = self.again(records)
        shutil.copy(self._ledger, self._learned)
        return taken

    def again(self, records: Path) -> float:
        """Return how long a run takes."""
        return seconds(self._command, records)

    def touched(self, records: Path) -> float:
        """Return how long a run takes that knows other versions of all records."""
        shutil.copy(self._learned, self._ledger)
        return self.again(records)

    def mebibytes(self, records: Path) -> float:
        """Return how much memory a run needs."""
        return mebibytes(self._command, records)

    @property
    def _command(self) -> list[str]:
        return [str(BIN / "target-stairoids"), "--config", str(self._config)]


def figures(scope: Scope) -> Iterator[Figure]:
    """Yield records a second, beside the SDK, its fork and the limit of reading."""
    count = scope.number(100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        records, touched = folder / "records.jsonl", folder / "touched.jsonl"
        write_contacts(records, count)
        write_contacts(touched, count, month=2)
        shared = folder / "shared.jsonl"
        write_contacts(shared, count, people=2)
        ours = {
            label: Ours(folder / label.replace(" ", "-"), settings)
            for label, settings in CONFIGS.items()
        }
        for target in ours.values():
            target.first(records)
        inferred = ours["inferred mapping"]
        sharing = Ours(folder / "sharing", {})
        sharing.first(shared)
        sharing.again(shared)  # learns that the keys are shared
        measures: dict[str, Callable[[], float]] = {
            **baselines(records),
            "first": partial(inferred.first, records),
            **{label: partial(one.again, records) for label, one in ours.items()},
            "touched": partial(inferred.touched, touched),
            "shared": partial(sharing.again, shared),
        }
        found = in_turn(measures, scope.rounds)
        yield from _beside_the_sdk(found, count)
        yield from beside_others(found, count)
        yield from _memory(inferred, records, folder, count)


def baselines(records: Path) -> dict[str, Callable[[], float]]:
    """Return the baselines. That of hotglue is left out if it cannot be installed."""
    empty = ["-c", EMPTY_TARGET]
    commands = {
        "sdk": [sys.executable, *empty, "singer_sdk"],
        "fast": [sys.executable, *empty, "singer_sdk", "fast"],
        "decode": [sys.executable, "-c", DECODE],
        "orjson": [sys.executable, "-c", ORJSON],
    }
    try:
        python = str(python_with(HOTGLUE))
        commands["hotglue"] = [python, *empty, "hotglue_singer_sdk"]
    except NotInstalledError as error:
        print(f"hotglue-singer-sdk is not measured: {error}", file=sys.stderr)
    return {name: partial(_seconds, line, records) for name, line in commands.items()}


def _seconds(command: list[str], records: Path) -> float:
    return seconds(command, records)


def _beside_the_sdk(found: dict[str, list[float]], count: int) -> Iterator[Figure]:
    rates = {n: count / statistics.median(taken) for n, taken in found.items()}
    goals = {"inferred mapping": 5, "explicit mapping": 5, "touched": 2, "first": 1}
    goals["shared"] = 2
    titles = {
        "first": "first baseline of 100,000 records",
        **{label: f"the same again, {label}" for label in CONFIGS},
        "touched": "each record touched, none changed",
        "shared": "the same again, two people share each key",
        "fast": "the SDK's empty sink, msgspec and no validation",
        "decode": "nothing but decoding each line (msgspec)",
    }
    for label, title in titles.items():
        yield Figure(
            path=title,
            value=rates[label],
            unit="records/s",
            beside=f"the SDK's empty `RecordSink`, {rates['sdk']:,.0f}/s",
            ratio=median_ratio(found["sdk"], found[label]),
            at_least=goals.get(label),
        )


def beside_others(found: dict[str, list[float]], count: int) -> Iterator[Figure]:
    """Yield a repeated sync beside each other baseline, also one that is missing."""
    again = found["inferred mapping"]
    for name, title in OTHERS.items():
        told, ratio = "could not be installed", None
        if theirs := found.get(name):
            told = f"{count / statistics.median(theirs):,.0f}/s"
            ratio = median_ratio(theirs, again)
        yield Figure(
            path="the same again, inferred mapping",
            value=count / statistics.median(again),
            unit="records/s",
            beside=f"{title}, {told}",
            ratio=ratio,
        )


def _memory(ours: Ours, records: Path, folder: Path, count: int) -> Iterator[Figure]:
    """Yield the memory of a repeated sync, beside that of a fifth of the records."""
    few = folder / "few.jsonl"
    write_contacts(few, max(1, int(count * LESS_THAN_ALL)))
    ours.first(records)
    less, all_of_them = ours.mebibytes(few), ours.mebibytes(records)
    yield Figure(
        path="memory of a repeated sync",
        value=all_of_them,
        unit="MiB",
        beside=f"a fifth of the records, {less:.0f} MiB",
        ratio=all_of_them / less,
        at_most=1.2,
    )
