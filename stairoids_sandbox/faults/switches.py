"""Describe the faults as switches of the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.faults.faults import KINDS, Fault

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

PROBABILITIES = {"0.1": "1 in 10", "0.5": "every other", "1": "every one"}
STATUSES = ("500", "502", "503", "504", "429")
_RETRY_AFTER = {"429": 2, "503": 2}
_SLOW_MS = 2_000.0


@dataclass(frozen=True, slots=True)
class Switch:
    """One kind of fault.

    Attributes:
        name: A label for people.
        text: The effect on a signal that is sent.
        active: The active faults of this kind, in words; empty if it is off or its
            count is used up.
    """

    kind: str
    name: str
    text: str
    active: tuple[str, ...]

    @property
    def has_status(self) -> bool:
        """Whether the status of the response can be chosen."""
        return self.kind.startswith("status")


def switches_for(faults: Collection[tuple[Fault, int]]) -> list[Switch]:
    """Return every switch, with its active faults and their uses."""
    return [
        Switch(
            kind,
            about.label,
            about.text,
            tuple(_in_words(one, used) for one, used in faults if one.kind == kind),
        )
        for kind, about in KINDS.items()
    ]


def fault_for(kind: str, fields: Mapping[str, str]) -> Fault:
    """Return the fault that a switch turns on.

    Raises:
        UsageError: The switch has no such choice.
    """
    probability = fields.get("probability", "1")
    status = fields.get("status", "503")
    if probability not in PROBABILITIES or status not in STATUSES:
        raise UsageError("a switch has no such choice")
    return Fault(
        kind=kind,
        probability=float(probability),
        status=int(status),
        retry_after=_RETRY_AFTER.get(status) if kind == "status" else None,
        delay_ms=_SLOW_MS if kind.startswith("slow") else 0.0,
    )


def _in_words(fault: Fault, used: int) -> str:
    """Describe a fault, such as `10 % of sends, 503, 2 of 7 used`."""
    which = {"send": "send", "read": "read", "all": "request"}[fault.on]
    words = [
        f"every {which}"
        if fault.probability == 1
        else f"{100 * fault.probability:.4g} % of {which}s"
    ]
    if fault.containing:
        words[0] += f" that contains “{fault.containing[:60]}”"
    if fault.kind.startswith("status"):
        words.append(str(fault.status))
    if fault.kind.startswith("slow"):
        words.append(f"{fault.delay_ms / 1000:g} s")
    if fault.count is not None:
        words.append(f"{used:,} of {fault.count:,} used")
    return ", ".join(words)
