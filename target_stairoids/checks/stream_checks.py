"""The checks of a stream: set it aside before much of it is sent again.

A check that fires sets its stream aside: no more signals of it leave, and its records
are pending. The other streams go on. This module holds no SQL and sends nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from stairoids_common.text import as_code, shell_command
from target_stairoids.checks.circuit_breaker import LAST, nearly_all_fail
from target_stairoids.dedup.duplicate_rules import Key, Version

Held = TypeVar("Held")

BULK_CHANGE, IDENTITY = "bulk change", "identity change"
SOURCE, ANOTHER_PERSON = "source", "another person"
ALL_INVALID = "all invalid"

_LEAST = 50
_SHARE = 0.2
SAMPLE = 200  # records of a stream with a new identity that are looked up
_WAIT_SECONDS = 60.0
_FEW = 5  # records that are enough for a check
_SHOWN = 5  # columns in a message
_NAMESPACE = "give each pipeline its own `namespace` or `ledger_url`"


def in_namespace(name: str) -> tuple[str, str]:
    """Return in words where records were sent, and the advice."""
    if not name:
        return (
            "without a namespace",
            "If the pipeline is the same, remove `namespace`. ",
        )
    advice = "If the pipeline is the same, set that `namespace` again. "
    return f"in the namespace {as_code(name)}", advice


def changed_columns(before: Sequence[str], now: Sequence[str]) -> str:
    """Return in words which columns identified a record, and which do so now."""
    were, are = _in_words(before, now), _in_words(now, before)
    return f"They were {were}, and are {are} now."


def _in_words(columns: Sequence[str], others: Sequence[str]) -> str:
    """Return the names of columns, the new ones first. `*` means no key."""
    names = sorted(set(columns) - {"*"}, key=lambda name: (name in others, name))
    shown = [as_code(name) for name in names[:_SHOWN]]
    if len(names) > _SHOWN:
        shown.append(f"{len(names) - _SHOWN} more")
    words = " and ".join(filter(None, [", ".join(shown[:-1]), *shown[-1:]]))
    return f"{words} (without a key)" if "*" in columns else words


@dataclass(eq=False)
class StreamChecks(Generic[Held]):
    """The checks of one stream in one run.

    Attributes:
        known: How many entities of the stream the ledger knows; 0 for a new stream.
        null_keys: Whether the keys of known entities are null: True, False or both.
        is_first: Whether no run of the stream was complete so far.
        is_allowed: Whether a person lets the checks pass.
        fired_before: Whether the bulk-change check fired in an earlier run. Then
            nothing leaves before the input ends.
        new_identity: The new part of its identity, in words; "" without any.
        is_by_content: Whether keys became null, or no longer are. Then contents are
            compared.
        others: Keys that were sent for other people than those that this run has read.
        immediate_check: The check that fires once a signal is due, and its reason.
        fired: The check that set the stream aside, and its reason.
        sample: The digests of each of the first records, if the identity is new: source
            digests. With `is_by_content`, digests of its content or person.
    """

    stream: str
    known: int
    null_keys: set[bool] = field(default_factory=set)
    is_first: bool = False
    is_allowed: bool = False
    fired_before: bool = False
    new_identity: str = ""
    is_by_content: bool = False
    immediate_check: tuple[str, str] | None = None
    fired: tuple[str, str] | None = None
    changed: int = 0
    others: set[Key] = field(default_factory=set)
    _older: int = 0
    _other_people: int = 0  # records of `send: once`
    _oldest: float | None = None
    _waiting: list[Held] = field(default_factory=list)
    sample: set[frozenset[bytes]] = field(default_factory=set)
    _invalid: list[Held] = field(default_factory=list)
    has_valid: bool = False
    _recent: deque[bool] = field(default_factory=lambda: deque(maxlen=LAST))

    @property
    def limit(self) -> int:
        """How many entities may change in one run."""
        return max(_LEAST, int(self.known * _SHARE))

    @property
    def _people(self) -> int:
        """How many keys were read for other people only."""
        return len(self.others) + self._other_people

    @property
    def _allow(self) -> str:
        return shell_command("stairoids-signals ledger allow", self.stream)

    @property
    def has_sample(self) -> bool:
        """Whether there are enough records to compare with the ledger."""
        return bool(self.new_identity) and len(self.sample) >= SAMPLE

    @property
    def passed(self) -> bool:
        """Whether the ledger may remember the stream's mappings."""
        is_new = bool(self.new_identity) or self.immediate_check is not None
        is_identity = self.fired is not None and self.fired[0] == IDENTITY
        return self.is_allowed or not (is_new or is_identity)

    # Signals

    def sample_of(
        self,
        version: Version,
        sources: Callable[[], frozenset[bytes]],
        *,
        is_new: bool,
        is_once: bool,
    ) -> frozenset[bytes]:
        """Return a record's digests for the sample of a new identity.

        The identity is new if all known entities of the stream have a key, and a new
        one has none; or the reverse.
        """
        is_null = version.has_null_key
        is_other = is_new and self.null_keys == {not is_null}
        if is_other and not self.new_identity:
            now = "are null now" if is_null else "were null and are filled in"
            self.new_identity, self.is_by_content = f"its keys {now}", True
        if not self.is_by_content:
            return sources() if self.new_identity else frozenset()
        person = version.email or version.domain
        digest = person if is_once else version.content_digest
        return frozenset([digest] if is_other and digest else [])

    def admit(
        self,
        held: Held,
        *,
        is_changed: bool,
        is_expected: bool,
        sample: frozenset[bytes],
        now: float,
        other: Key | None = None,
    ) -> bool:
        """Return whether a signal may leave at once; else it waits, or is set aside.

        Args:
            is_changed: Whether a signal of its entity was sent in an earlier run.
            is_expected: Whether the mapping says that many records may change.
            other: Its key, if that was sent for other people, and this run has read
                none of them so far. Before a complete run, their rows may still come.
        """
        if self.is_allowed:
            return True
        if self.immediate_check is not None:
            self.fire(*self.immediate_check)
        counts = is_changed and self.known > 0 and not is_expected
        if counts:
            self._count_change()
        if other is not None and self.known and not (is_expected or self.is_first):
            self.others.add(other)
            counts = True
        if self.new_identity and sample:
            self.sample.add(sample)
        waits = counts or bool(self.new_identity)
        waits |= self.fired_before and not is_expected
        if waits or self.fired:
            self._wait(held, now)
            return False
        return True

    def superseded(self, held: Held, *, is_expected: bool, now: float) -> bool:
        """Return whether an older state than the last one is settled; else it waits."""
        if self.is_allowed or is_expected or not self.known:
            return True
        self._older += 1
        self._count_change()
        self._wait(held, now)
        return False

    def _wait(self, held: Held, now: float) -> None:
        self._waiting.append(held)
        self._oldest = self._oldest or now

    def _count_change(self) -> None:
        self.changed += 1
        if self.changed > self.limit:
            self._fire_bulk_change()

    def _fire_bulk_change(self) -> None:
        older = (
            f"{self._older} of them are older than the last state that was sent. If "
            "their order starts again at the source, run "
            f"{shell_command('stairoids-signals ledger reset-order', self.stream)}. "
        )
        others = (
            f"{self._people} of them are about other people or companies. If two "
            f"databases share this ledger, {_NAMESPACE}. "
        )
        self.fire(
            BULK_CHANGE,
            f"Stream {as_code(self.stream)}: more than {self.limit} of its "
            f"{self.known} known records have changed in this run. "
            f"{older if self._older else ''}{others if self._people else ''}"
            "If a column changes at every sync, name it in the mapping's "
            "`ignore_changes`, and pipe the tap into `stairoids-signals ledger "
            "baseline` once. It remembers new records too, and sends none. If the "
            f"changes are intended, run {self._allow}, or set `bulk_changes: expected` "
            "in the mapping.",
        )

    def another_person(self) -> None:
        """Count a record whose key was sent for another person (`once`)."""
        if self.is_allowed:
            return
        self._other_people += 1
        if self._other_people > self.limit:
            self.fire(
                ANOTHER_PERSON,
                f"Stream {as_code(self.stream)}: more than {self.limit} keys were "
                "already sent for other people. If two databases share this ledger, "
                f"{_NAMESPACE}. Otherwise run {self._allow}.",
            )

    def compared(self, known: set[bytes], names: str, rename: str = "") -> None:
        """Compare the sample with the records of another identity in the ledger.

        `names` are those of that identity. `rename` has the command that makes the
        stream continue it.
        """
        sample = len(self.sample)
        repeated = sum(not known.isdisjoint(digests) for digests in self.sample)
        few = min(_FEW, self.known)  # 0 for a stream that the ledger does not know
        if sample and repeated >= few and repeated * 2 >= sample:
            self._fire_identity(self.new_identity, repeated, sample, names, rename)
        elif sample:
            self.new_identity, self.null_keys = "", set()

    def rekeyed(self, repeated: int, sample: int, namespaces: set[str]) -> None:
        """Note how many of the new records are known under another key or namespace."""
        if self.is_allowed or repeated < _FEW or repeated * 2 < sample:
            return
        if namespaces:
            words = "its records were sent before"
            self._fire_identity(words, repeated, sample, *in_namespace(min(namespaces)))
        else:
            words = "the values of its key are others"
            ways = (
                "If its keys change at each sync, set `key` in the mapping. If these "
                "are new records, set `bulk_changes: expected` in the mapping. "
            )
            self._fire_identity(words, repeated, sample, "under other keys", ways)

    def _fire_identity(
        self, change: str, repeated: int, sample: int, names: str, rename: str
    ) -> None:
        self.fire(
            IDENTITY,
            f"Stream {as_code(self.stream)}: {change}, and the ledger knows {repeated} "
            f"of its first {sample} records {names}. Sending would repeat them. "
            f"{rename}To remember the records and send none, pipe the tap into "
            "`stairoids-signals ledger baseline`. If all must be sent again, run "
            f"{self._allow}.",
        )

    # Records

    def valid(self, times: int = 1) -> list[Held]:
        """Note valid records; return the invalid ones that are dead letters now."""
        self.has_valid |= times > 0
        self._recent.extend([True] * min(times, LAST))
        invalid, self._invalid = self._invalid, []
        return invalid

    def invalid(self, held: Held) -> bool:
        """Return whether an invalid record is a dead letter at once; else it waits."""
        if not self.known or self.is_allowed:
            return True
        self._recent.append(False)
        self._invalid.append(held)
        if nearly_all_fail(self._recent):
            self._fire_invalid(f"nearly all of the last {LAST} records")
        return False

    def _fire_invalid(self, share: str) -> None:
        self.fire(
            ALL_INVALID,
            f"Stream {as_code(self.stream)}: {share} are invalid, though the stream "
            "was sent before. Was a column renamed? Fix the mapping in `signals`, or "
            "the tap's catalog, and run again. If the records are wrong, run "
            f"{self._allow}.",
        )

    # Ends

    def fire(self, check: str, reason: str) -> None:
        """Set the stream aside. The first check that fires counts."""
        self.fired = self.fired or (check, reason)

    def due(self, now: float, *, is_full: bool = False) -> list[Held]:
        """Return the signals that have waited long enough."""
        if self.fired or self._oldest is None:
            return []
        has_waited = now - self._oldest >= _WAIT_SECONDS
        if self.fired_before or self.new_identity:
            if is_full and not self.new_identity:
                self.fire_full()
            return []
        return self._admitted() if has_waited or is_full else []

    def fire_full(self) -> None:
        """Set the stream aside, because too much waits for the end of the input."""
        if self.is_allowed:
            return
        self.fire(
            BULK_CHANGE,
            f"Stream {as_code(self.stream)}: more signals wait for the end of its "
            "input than the queue holds. If several rows share a key, set `key` in the "
            f"mapping. If the signals may be sent, run {self._allow}.",
        )

    def end_of_input(self) -> list[Held]:
        """Return the signals that may leave, because the input ended."""
        if self.known and not self.has_valid and len(self._invalid) >= _FEW:
            self._fire_invalid(f"all {len(self._invalid)} records")
        admitted = self._admitted()
        return [] if self.fired else [*admitted, *self.kept_back()]

    def _admitted(self) -> list[Held]:
        """Return the signals that wait, unless too many keys have other people."""
        if self.changed + self._people > self.limit:
            self._fire_bulk_change()
        return [] if self.fired else self.taken()

    def taken(self) -> list[Held]:
        """Return the signals that wait, and forget them."""
        waiting, self._waiting, self._oldest = self._waiting, [], None
        return waiting

    def kept_back(self) -> list[Held]:
        """Return the signals and invalid records that wait, and forget them."""
        invalid, self._invalid = self._invalid, []
        return [*self.taken(), *invalid]
