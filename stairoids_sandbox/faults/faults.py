"""Faults on demand: what networks and gateways do to a request now and then.

A fault strikes by its own seeded dice, so the same requests in the same order
meet the same faults in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

KINDS = (
    "drop_after_accept",
    "truncate_after_accept",
    "status_after_accept",
    "status",
    "reset",
    "slow",
)
TARGETS = ("send", "read", "all")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail.

    Attributes:
        kind: ``drop_after_accept`` handles the request and closes the connection
            without an answer; ``truncate_after_accept`` closes it half-way through
            the answer; ``status_after_accept`` handles it and answers ``status``;
            ``status`` answers ``status`` and handles nothing; ``reset`` resets the
            connection and handles nothing; ``slow`` handles it and answers
            ``delay_ms`` later.
        probability: Of striking, from 0 to 1.
        count: Strike within the first ``count`` requests only; None is all.
        on: ``send`` is ``POST /v1/signals``, ``read`` is every GET, or ``all``.
        status: For the two status kinds.
        retry_after: Seconds for the ``Retry-After`` header of these.
        delay_ms: For ``slow``.
        seed: Of the dice.
    """

    kind: str
    probability: float = 1.0
    count: int | None = None
    on: str = "send"
    status: int = 503
    retry_after: int | None = None
    delay_ms: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, fits in (
            ("kind", self.kind in KINDS),
            ("on", self.on in TARGETS),
            ("probability", 0 <= self.probability <= 1),
            ("count", self.count is None or self.count >= 0),
            ("status", 400 <= self.status <= 599),
            ("retry_after", self.retry_after is None or self.retry_after >= 0),
            ("delay_ms", 0 <= self.delay_ms <= 3_600_000),
        ):
            if not fits:
                msg = f"fault: {name} {getattr(self, name)!r} does not fit"
                raise UsageError(msg)

    @property
    def after_accept(self) -> bool:
        """Whether the request is handled before the fault strikes."""
        return self.kind.endswith("after_accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strike:
    """What is to happen to one request.

    Attributes:
        fault: The fault that decides the answer; None answers truly.
        delay: Seconds to hold the answer back.
    """

    fault: Fault | None
    delay: float


class _Dice:
    """One fault with its dice and what is left of its count."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self._left = fault.count
        self._random = Random(fault.seed)  # noqa: S311 -- repeatable on purpose, nothing is secret here

    def strikes(self, target: str) -> bool:
        if self.fault.on not in {target, "all"}:
            return False
        if self._left is not None:
            if self._left == 0:
                return False
            self._left -= 1
        return self._random.random() < self.fault.probability


class Faults:
    """The faults in force. Set them from any thread while requests run."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._dice: tuple[_Dice, ...] = ()
        self.set(faults)

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace all faults; their dice and counts begin anew."""
        self._dice = tuple(_Dice(fault) for fault in faults)

    def add(self, fault: Fault) -> None:
        """Add a fault behind the ones in force."""
        self._dice = (*self._dice, _Dice(fault))

    def remove(self, kind: str) -> None:
        """End the faults of one kind; the others go on where they are."""
        self._dice = tuple(dice for dice in self._dice if dice.fault.kind != kind)

    def clear(self) -> None:
        """End all faults."""
        self._dice = ()

    def all(self) -> list[Fault]:
        """List the faults in force, those with a spent count included."""
        return [dice.fault for dice in self._dice]

    def strike(self, method: str, path: str) -> Strike | None:
        """Throw the dice for a request; None means it is left alone.

        The first fault that strikes decides the answer; delays add up.
        """
        if not self._dice:
            return None
        target = _target_of(method, path)
        struck = [dice.fault for dice in self._dice if dice.strikes(target)]
        if not struck:
            return None
        delay = sum(fault.delay_ms for fault in struck if fault.kind == "slow")
        deciding = [fault for fault in struck if fault.kind != "slow"]
        return Strike(fault=deciding[0] if deciding else None, delay=delay / 1000)


def _target_of(method: str, path: str) -> str:
    if method == "POST" and path == "/v1/signals":
        return "send"
    return "read" if method == "GET" else "all"
