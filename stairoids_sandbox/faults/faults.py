"""Choose which faults apply to a request.

Each fault has a seeded random generator, so the same requests in the same order meet
the same faults in every run.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from stairoids_common.config_errors import suggestion
from stairoids_sandbox.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable


class FaultKind(NamedTuple):
    """A kind of fault.

    Attributes:
        label: For people.
        text: The effect on a signal that is sent.
        is_handled: Whether the request is handled, so that a signal is accepted.
    """

    label: str
    text: str
    is_handled: bool = True


KINDS = {
    "drop_after_accept": FaultKind(
        "Lose the response", "Accepted, without a response."
    ),
    "truncate_after_accept": FaultKind(
        "Cut the response", "Accepted, half of the 201."
    ),
    "status_after_accept": FaultKind("Accept, then fail", "Accepted, with an error."),
    "status": FaultKind("Refuse", "Not accepted, with an error.", is_handled=False),
    "reset": FaultKind(
        "Reset", "Not accepted. The connection is reset.", is_handled=False
    ),
    "slow": FaultKind("Slow", "Accepted, with a late response."),
    "slow_accept": FaultKind("Accept late", "Accepted after a pause."),
    "html": FaultKind(
        "HTML page", "Not accepted, 200 with an HTML page.", is_handled=False
    ),
}
_DELAYS = {"slow", "slow_accept"}
TARGETS = ("send", "read", "all")


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One way to fail.

    Attributes:
        kind: One of ``KINDS``. ``slow_accept`` handles the request ``delay_ms`` later,
            also if the client is gone by then.
        probability: Of each request to be affected, from 0 to 1.
        count: Affect only the first ``count`` requests; None is all.
        on: ``send`` is ``POST /v1/signals``, ``read`` is every GET, or ``all``.
        status: For the two status kinds.
        retry_after: Seconds for the ``Retry-After`` header of the status kinds.
        delay_ms: For ``slow`` and ``slow_accept``.
        containing: Affect only requests whose body contains this text.
        seed: Of the random generator.

    Raises:
        UsageError: A value does not fit.
    """

    kind: str
    probability: float = 1.0
    count: int | None = None
    on: str = "send"
    status: int = 503
    retry_after: int | None = None
    delay_ms: float = 0.0
    containing: str = ""
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
                value = getattr(self, name)
                known = {"kind": (*KINDS,), "on": TARGETS}.get(name, ())
                hint = suggestion(str(value), known)
                raise UsageError(f"fault: {name} {value!r} does not fit{hint}")

    @property
    def is_handled(self) -> bool:
        """Whether the request is handled before it fails."""
        return KINDS[self.kind].is_handled


def fault_from(text: str) -> Fault:
    """Read the value of ``--fault``, such as ``status,status=503,probability=0.2``.

    Raises:
        UsageError: The text does not describe a fault.
    """
    kind, *options = text.split(",")
    fields = {"kind": kind}
    for option in options:
        name, found, value = option.partition("=")
        if not found or name not in Fault.__struct_fields__ or name in fields:
            hint = suggestion(name, Fault.__struct_fields__[1:])
            msg = f"--fault: {option!r} is unknown, given twice or lacks its value"
            raise UsageError(msg if name in fields else msg + hint)
        fields[name] = value
    try:
        return msgspec.convert(fields, Fault, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"--fault: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultEffect:
    """The effect of all faults on one request.

    Attributes:
        fault: The fault that decides the response; None leaves the response as it is.
        delay: Seconds to hold the response back.
        accept_delay: Seconds to wait before the request is handled.
    """

    fault: Fault | None
    delay: float
    accept_delay: float


class _ActiveFault:
    """A fault with its random generator and the number of its requests."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.used = 0  # of its count, if it has one
        self._random = Random(fault.seed)  # noqa: S311 -- repeatable, and not secret

    @property
    def is_done(self) -> bool:
        return self.used == self.fault.count

    def affects(self, target: str, body: bytes) -> bool:
        if self.fault.on not in {target, "all"} or self.is_done:
            return False
        if self.fault.containing.encode() not in body:
            return False
        self.used += 1
        return self._random.random() < self.fault.probability


class Faults:
    """The active faults. They can be changed from any thread while requests run."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._active: tuple[_ActiveFault, ...] = ()
        self.set(faults)

    def set(self, faults: Iterable[Fault]) -> None:
        """Replace all faults, or remove them with an empty list."""
        self._active = tuple(map(_ActiveFault, faults))

    def add(self, fault: Fault) -> None:
        """Add a fault after the active ones."""
        self._active = (*self._active, _ActiveFault(fault))

    def remove(self, kind: str) -> None:
        """Remove the faults of one kind. The others go on."""
        self._active = tuple(one for one in self._active if one.fault.kind != kind)

    def all(self) -> list[Fault]:
        """Return the active faults, also those whose count is used up."""
        return [active.fault for active in self._active]

    def counts(self) -> list[tuple[Fault, int]]:
        """Return the faults that can affect a request, and the uses of each."""
        return [
            (active.fault, active.used) for active in self._active if not active.is_done
        ]

    def __bool__(self) -> bool:
        """Return whether there is an active fault."""
        return bool(self._active)

    def effect_on(
        self, method: str, path: str, body: bytes = b""
    ) -> FaultEffect | None:
        """Return the effect on a request; None if no fault affects it.

        The first fault that affects the request decides the response. Delays add up.
        """
        target = _target_of(method, path)
        active = [one for one in self._active if one.affects(target, body)]
        faults = [one.fault for one in active]
        if not faults:
            return None
        delays = dict.fromkeys(_DELAYS, 0.0)
        for fault in faults:
            if fault.kind in _DELAYS:
                delays[fault.kind] += fault.delay_ms / 1000
        return FaultEffect(
            fault=next((fault for fault in faults if fault.kind not in _DELAYS), None),
            delay=delays["slow"],
            accept_delay=delays["slow_accept"],
        )


def _target_of(method: str, path: str) -> str:
    if method == "POST" and path == "/v1/signals":
        return "send"
    return "read" if method == "GET" else "all"
