"""Random histories of rows, against an oracle that knows which row each record is.

The oracle shares no code with the rules for duplicates. It knows the rows of a table,
the tap that reads them, and the signals that Stairoids accepted. The target sees the
records only. Runs are killed, interrupted and repeated, and responses are lost.
`STAIROIDS_MODEL` is the number of examples for each test; `make soak` has many.
"""

from __future__ import annotations

import json
import os
import random
import signal
import tempfile
import warnings
from collections import Counter, defaultdict
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from stairoids_sandbox import Fault, Sandbox
from target_stairoids import input as run_input
from target_stairoids.api.client import Client, Response
from target_stairoids.dedup import seen_entities
from target_stairoids.exceptions import StairoidsError
from target_stairoids.ledger import transaction
from target_stairoids.sending import checkpoint, queue, record_processor
from target_stairoids.target import TargetStairoids
from tests.support.singer_io import (
    TargetUnderTest,
    a_record,
    a_schema,
    a_state,
    text_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.singer_io import Message

pytestmark = pytest.mark.slow

EXAMPLES = int(os.environ.get("STAIROIDS_MODEL", "10"))
ROWS = 4
LOST = "lost"  # the stage of a row that `when` excludes
STAGES = ["a", "b", "c"]
BOOKMARKS = {"time", "date"}

#: The content of a signal: key, address, domain, stage and note.
Content = tuple[Any, ...]


@dataclass(frozen=True)
class World:
    """The properties of a table and of its tap.

    Attributes:
        keys: `unique`, `shared` by several rows, or `null`.
        order: `none`, a bookmark column with a `time` or a `date`, or a `log`.
        people: `own` of each row, or the `same` for all rows of a key. With `half`,
            only the address or only the domain of a row is known at first.
        loader: Whether a loader's column changes every night.
    """

    keys: str
    order: str
    send: str
    people: str
    loader: bool


@dataclass(frozen=True)
class Row:
    """One state of a row. `number` is its hidden identity."""

    number: int
    key: int | None
    email: str | None
    domain: str | None
    stage: str
    note: int = 0
    changed_at: int = 0

    def content(self, send: str) -> Content:
        """Return the content of the signal of this state."""
        email = self.email and self.email.lower()
        note = self.note if send == "always" else None
        return self.key, email, self.domain, self.stage, note


def person_of(content: Content) -> tuple[Any, ...]:
    """Return the key and person of a signal, where addresses do not change."""
    key, email, domain, *_ = content
    return key, email.partition("@")[2] if email else domain


@dataclass(frozen=True)
class Sync:
    """Changes of rows, and then one run.

    Attributes:
        changes: Number of a row, and its new stage or another change.
        seed: Of the order in which the tap reads rows.
        repeats: Whether the tap reads each row twice.
        goes_back: Whether the tap starts before its bookmark.
        end: `whole`, `kill` or `term`.
        requests: How many signals the run sends before its end.
        is_heard: Whether the last one reaches Stairoids before SIGKILL.
        lost: How many responses are lost.
        is_accepted: Whether Stairoids accepts the signals of these.
    """

    changes: list[tuple[int, str]]
    seed: int
    repeats: bool = False
    goes_back: bool = False
    end: str = "whole"
    requests: int = 0
    is_heard: bool = False
    lost: int = 0
    is_accepted: bool = True


CHANGES = [*STAGES, LOST, "touch", "delete", "restore", "address", "fill in"]
# A function-scoped fixture patches the same numbers for all examples.
QUIET: dict[str, Any] = {
    "suppress_health_check": [
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
    ]
}
SYNCS = st.lists(
    st.builds(
        Sync,
        changes=st.lists(
            st.tuples(st.integers(0, ROWS - 1), st.sampled_from(CHANGES)), max_size=4
        ),
        seed=st.integers(0, 5),
        repeats=st.booleans(),
        goes_back=st.booleans(),
        end=st.sampled_from(["whole", "whole", "whole", "kill", "term"]),
        requests=st.integers(1, 3),
        is_heard=st.booleans(),
        lost=st.sampled_from([0, 0, 0, 1, 2]),
        is_accepted=st.booleans(),
    ),
    min_size=1,
    max_size=5,
)


class Table:
    """Rows that change over time, and the tap that reads them.

    Attributes:
        log: All states of the rows, in the order of their changes.
        arrivals: How often a row came into a state that says something.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = self.night = 0
        self.rows: dict[int, Row] = {}
        self.deleted: dict[int, Row] = {}
        self.log: list[Row] = []
        for number in range(ROWS):
            self._put(self._new(number))

    def _new(self, number: int) -> Row:
        world = self.world
        key = {"unique": number, "shared": number % 2, "null": None}[world.keys]
        person = f"k{key or 0}" if world.people == "same" else f"p{number}"
        email: str | None = f"{person}@{person}.example"
        domain: str | None = f"{person}.example"
        if world.people == "half":
            email, domain = (None, domain) if number % 2 else (email, None)
        return Row(number, key, email, domain, STAGES[number % 3])

    def _put(self, row: Row) -> None:
        self.clock += 1
        at = self.night if self.world.order == "date" else self.clock
        self.rows[row.number] = replace(row, changed_at=at)
        self.log.append(self.rows[row.number])

    def change(self, changes: list[tuple[int, str]]) -> None:
        """Change rows; more than once in one night if there is a log."""
        self.night += 1
        changed = set()
        for number, change in changes:
            row = self.rows.get(number)
            if number in changed and self.world.order != "log":
                continue
            changed.add(number)
            if change == "restore" and number in self.deleted:
                self._restore(self.deleted.pop(number))
            elif row is not None and change == "delete":
                self._delete(row)
            elif row is not None:
                after = self._changed(row, change)
                if after != row:
                    self._put(after)

    def _restore(self, row: Row) -> None:
        if self.is_ambiguous:
            self.rows[row.number] = row
        else:
            self._put(row)

    def _delete(self, row: Row) -> None:
        if not (self.is_ambiguous and self.world.order == "date"):
            self.deleted[row.number] = self.rows.pop(row.number)

    def _changed(self, row: Row, change: str) -> Row:
        if change == "touch" and not self.is_ambiguous:
            email = row.email and row.email.swapcase()
            return replace(row, email=email, note=self.clock)
        if change == "address" and self.world.send != "once":
            return replace(row, email=f"n{self.clock}@b.example")
        if change == "fill in":
            person = f"p{row.number}"
            email = row.email or f"{person}@{person}.example"
            return replace(row, email=email, domain=row.domain or f"{person}.example")
        if change in {*STAGES, LOST}:
            return replace(row, stage=change)
        return row

    @property
    def is_ambiguous(self) -> bool:
        """Whether a touched row looks like a state that returned."""
        world = self.world
        return (world.keys, world.people) == ("shared", "same") and (
            world.order != "none"
        )

    def read(self, sync: Sync, since: int) -> list[Row]:
        """Return the states that the tap reads in one run."""
        chance = random.Random(sync.seed)  # noqa: S311 - repeatable on purpose
        if self.world.order == "log":
            return [row for row in self.log if row.changed_at >= since]
        rows = [row for row in self.rows.values() if row.changed_at >= since]
        chance.shuffle(rows)
        if self.world.order != "none":
            rows.sort(key=lambda row: row.changed_at)
        return [row for row in rows for _ in range(1 + sync.repeats)]


@dataclass
class Oracle:
    """The signals that are due, by the rows' hidden identity.

    Attributes:
        read: Row -> the contents that runs have read, without repeats. None stands for
            a state that `when` excludes.
    """

    world: World
    read: dict[int, list[Content | None]] = field(
        default_factory=lambda: defaultdict(list)
    )
    newest: dict[int, int] = field(default_factory=lambda: defaultdict(lambda: -1))

    def reads(self, rows: list[Row]) -> None:
        """Note the states that a run may have read."""
        for row in rows:
            if row.changed_at <= self.newest[row.number]:
                continue  # read before
            self.newest[row.number] = row.changed_at
            said = None if row.stage == LOST else row.content(self.world.send)
            states = self.read[row.number]
            # A bookmark column is part of the state, which `always` sends.
            is_new = self.world.send == "always" and self.world.order in BOOKMARKS
            if not states or states[-1] != said or is_new:
                states.append(said)

    def arrivals(self) -> Counter[Content]:
        """Return how often a row came into each state that says something."""
        states = [state for row in self.read.values() for state in row]
        return Counter(state for state in states if state is not None)


class Syncs:
    """Runs the target on a table, in this process or in one that dies."""

    def __init__(self, world: World, sandbox: Sandbox, target: TargetUnderTest) -> None:
        self.world, self.sandbox, self.target = world, sandbox, target
        self.table, self.oracle = Table(world), Oracle(world)
        self.since = 0
        self.superseded = 0
        self.is_disturbed = False
        self.controls = 0
        target.config["request_timeout_seconds"] = 1
        target.config["signals"] = [
            {
                "stream": "deals",
                "type": "deal",
                "contact": {"email": "{{ email }}"},
                "account": {"domain": "{{ domain }}"},
                "when": f"{{{{ stage != '{LOST}' }}}}",
                "properties": ["key", "stage", *(["note"] * (world.send == "always"))],
                "send": world.send,
            }
        ]

    def sent(self) -> list[Content]:
        """Return the contents of all accepted signals."""
        bodies = [s.body for s in self.sandbox.signals if s.type == "deal"]
        return [
            (
                body["properties"].get("key"),
                body.get("contact", {}).get("email", "").lower() or None,
                body.get("account", {}).get("domain"),
                body["properties"]["stage"],
                body["properties"].get("note"),
            )
            for body in bodies
        ]

    def messages(self, rows: list[Row]) -> Iterator[Message]:
        """Yield the messages of a tap that reads these states."""
        world = self.world
        column = "_sdc_lsn" if world.order == "log" else "changed_at"
        names = ["key", "email", "domain", "stage", "note", "_fivetran_synced", column]
        yield {
            "type": "SCHEMA",
            "stream": "deals",
            "schema": {"properties": {name: {} for name in names}},
            "key_properties": ["key"],
            "bookmark_properties": [column] * (world.order in {"time", "date"}),
        }
        for row in rows:
            record = {name: getattr(row, name) for name in names[:5]}
            if world.order == "date":
                record[column] = f"2026-01-{row.changed_at + 1:02}"
            elif world.order != "none":
                record[column] = row.changed_at
            if world.loader:
                record["_fivetran_synced"] = self.table.night
            yield {"type": "RECORD", "stream": "deals", "record": record}
            yield a_state(row.changed_at)

    def sync(self, sync: Sync) -> None:
        """Change rows, run the target, and check the oracle's claims."""
        self.table.change(sync.changes)
        has_bookmark = self.world.order != "none"
        since = self.since if has_bookmark and not sync.goes_back else 0
        rows = self.table.read(sync, since)
        text = text_of(self.messages(rows))
        self.oracle.reads(self.table.log if self.table.is_ambiguous else rows)
        if sync.lost:
            failed = Fault(kind="status", status=500, count=sync.lost)
            lost = Fault(kind="drop_after_accept", count=sync.lost)
            self.sandbox.faults.set([lost if sync.is_accepted else failed])
        before = len(self.sent())
        if sync.end == "whole":
            self._run_whole(text, before, sync.lost)
            self._nothing_is_lost(rows)
        else:
            self.is_disturbed = True
            states = self._run_and_die(text, sync)
            self.since = max([self.since, *states])
        self.sandbox.faults.set([])
        self._nothing_is_sent_twice()

    def _run_whole(self, text: str, before: int, lost: int) -> None:
        # Lookups need a signal whose response comes later.
        controls = 1 + lost if self.is_disturbed or lost else 0
        first, self.controls = self.controls, self.controls + controls
        later = [a_record(n, "controls") for n in range(first, self.controls)]
        text += text_of([a_schema("controls"), *later])
        result = self.target.run_text(text)
        assert result.exit_code == 0, result.error
        report = result.report
        assert report["adds_up"]
        recovered = report["recovered"].get("accepted", 0)
        outcomes = result.outcomes
        new = len(self.sent()) - before
        assert new <= outcomes.get("accepted", 0) + recovered
        if not self.is_disturbed:
            assert new == outcomes.get("accepted", 0) - controls
        assert outcomes.keys() <= {
            "accepted",
            "duplicate",
            "unchanged",
            "superseded",
            "filtered",
        }
        self.superseded += outcomes.get("superseded", 0)
        self.since = max([self.since, *(state["at"] for state in result.states)])

    def _run_and_die(self, text: str, sync: Sync) -> list[int]:
        """Run in a process that ends before its nth response; return its STATEs."""
        printed = self.target.folder / "printed"
        with warnings.catch_warnings(action="ignore"):  # threads of the sandbox
            process = os.fork()
        if process == 0:
            _die(self.target, text, printed, sync)
        os.waitpid(process, 0)
        lines = printed.read_text().split("\n")[:-1]
        return [json.loads(line)["at"] for line in lines]

    def _nothing_is_sent_twice(self) -> None:
        sent, arrivals = Counter(self.sent()), self.oracle.arrivals()
        if self.world.send == "once":
            sent = Counter(map(person_of, sent.elements()))
            arrivals = Counter({person_of(state): 1 for state in arrivals})
        if self.world.keys == "null" and self.world.send != "always":
            arrivals = Counter(arrivals.keys())
        assert sent - arrivals == Counter(), "sent too often"
        if self.world.keys == "unique":
            for number, states in self.oracle.read.items():
                ours = [said for said in self.sent() if said[0] == number]
                left = iter(states)
                assert all(said in left for said in ours), "sent out of order"
                if self.world.send == "once":
                    assert len(ours) <= 1

    def _nothing_is_lost(self, rows: list[Row]) -> None:
        """Check that the last states of a whole run's rows were sent."""
        send, sent = self.world.send, self.sent()
        last = {row.number: row for row in rows}.values()
        due = {row.content(send) for row in last if row.stage != LOST}
        if self.world.keys == "unique":
            for key, *rest in due:
                ours = [said for said in sent if said[0] == key]
                assert ours
                if send != "once":
                    assert ours[-1] == (key, *rest)
        elif send == "once":
            missing = set(map(person_of, due)) - set(map(person_of, sent))
            assert len(missing) <= self.superseded
        else:
            missing = due - set(sent)
            assert len(missing) <= self.superseded

    def check_end(self) -> None:
        """Check the exact number of signals where the rows are sure."""
        whole = Sync([], seed=1)
        self.sync(whole)
        before = len(self.sent())
        self.sync(whole)
        assert len(self.sent()) == before, "a repeated run sends nothing"
        if self.world.keys == "unique" and not self.is_disturbed:
            count = sum(self.oracle.arrivals().values())
            if self.world.send == "once":
                count = sum(any(states) for states in self.oracle.read.values())
            assert len(self.sent()) == count


def _die(target: TargetUnderTest, text: str, printed: Path, sync: Sync) -> None:
    """Run the target in this process until it dies. It never returns."""
    post, requests = Client.post_signal, [0]
    number = signal.SIGKILL if sync.end == "kill" else signal.SIGTERM

    def post_or_die(client: Client, request: bytes) -> Response:
        requests[0] += 1
        if requests[0] < sync.requests:
            return post(client, request)
        if sync.is_heard:
            response = post(client, request)
        os.kill(os.getpid(), number)
        return response if sync.is_heard else post(client, request)

    try:
        patch = pytest.MonkeyPatch()
        patch.setattr(Client, "post_signal", post_or_die)
        # As long ago as a request may take, so that the next run need not wait.
        patch.setattr(transaction, "timestamp", lambda: "2026-01-01T00:00:00.000Z")
        (target.folder / "input").write_text(text)
        with (
            printed.open("w", buffering=1) as states,
            redirect_stdout(states),
            (target.folder / "input").open() as tap,
        ):
            TargetStairoids(config=target.config).listen(tap)
    except StairoidsError:
        pass
    finally:
        os._exit(0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let blocks, buffers and the queue hold a few records only."""
    monkeypatch.setattr(record_processor, "_BLOCK", 3)
    monkeypatch.setattr(record_processor, "FULL", 2)
    monkeypatch.setattr(seen_entities, "_BLOCK", 4)
    monkeypatch.setattr(queue, "_QUEUE_SIZE", 10)
    monkeypatch.setattr(run_input, "_CHUNK", 300)
    monkeypatch.setattr(checkpoint, "_SECONDS", 0.0)


def check(world: World, syncs: list[Sync], ledger_url: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        target = TargetUnderTest(Path(folder), sandbox.url)
        if ledger_url:
            target.config["ledger_url"] = ledger_url
        syncing = Syncs(world, sandbox, target)
        for sync in syncs:
            syncing.sync(sync)
        syncing.check_end()


WORLDS = st.builds(
    World,
    keys=st.sampled_from(["unique", "shared", "null"]),
    order=st.sampled_from(["none", "time", "date", "log"]),
    send=st.sampled_from(["once", "on_change", "always"]),
    people=st.sampled_from(["own", "same", "half"]),
    loader=st.booleans(),
)


@pytest.mark.usefixtures("small", "short_backoff")
@settings(max_examples=EXAMPLES, phases=[Phase.explicit, Phase.generate], **QUIET)
@example(  # a record is held until a later block of records
    world=World("shared", "date", "always", "same", loader=False),
    syncs=[Sync([], seed=5), Sync([], seed=2, repeats=True, goes_back=True)],
)
@given(world=WORLDS, syncs=SYNCS)
def test_each_state_of_each_row_is_sent_once(world: World, syncs: list[Sync]) -> None:
    check(world, syncs)


@pytest.mark.usefixtures("small", "short_backoff")
@settings(max_examples=2 + EXAMPLES // 10, phases=[Phase.generate], **QUIET)
@given(world=WORLDS, syncs=SYNCS)
def test_each_state_is_sent_once_with_postgres(
    new_database: Callable[[], str], world: World, syncs: list[Sync]
) -> None:
    check(world, syncs, new_database())
