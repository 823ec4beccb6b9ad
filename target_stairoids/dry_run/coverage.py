"""Coverage: the fields of a mapping that stay empty, and values that cannot be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from target_stairoids.dedup.duplicate_rules import Outcome
from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping import people_and_companies as people
from target_stairoids.mapping.expressions.paths import path_text
from target_stairoids.mapping.expressions.template import (
    Reader,
    compile_template,
    path_reader,
)
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.mapping.times import likely_event_time_from
from target_stairoids.mapping.values import is_filled
from target_stairoids.sending.observer import Observation

_TOP = 5  # the most frequent domains


def _address(text: str) -> str | None:
    return people.clean_email(text) or people.clean_domain(text)


#: Field -> the function that reads a column's text for it.
_READABLE: Mapping[str, Callable[[str], str | None]] = {
    "account.domain": _address,
    "account.name": people.clean_name,
    "contact.email": _address,
    "contact.first_name": people.clean_name,
    "contact.last_name": people.clean_name,
    "suppress": people.entry_of,
}
FIELDS = (*[name for name in _READABLE if name != "suppress"], "occurred_at")


class Coverage:
    """The records of a mapping that were not filtered, and their values.

    Attributes:
        filled: Field, or property with `properties.` -> records that fill it.
        domains: Domain -> records about this company, or a person there.
        unreadable: Column -> values that cannot be read for the field they are for.
        reasons: Reason of an outcome -> records, with those that were filtered.
    """

    def __init__(self, mapping: CompiledMapping) -> None:
        self.records = 0
        self.filled: Counter[str] = Counter()
        self.domains: Counter[str] = Counter()
        self.unreadable: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._mapping = mapping
        self._readers: dict[str, Reader] = {
            **{f"account.{name}": read for name, read in mapping.account.items()},
            **{f"contact.{name}": read for name, read in mapping.contact.items()},
            "occurred_at": mapping.occurred_at,
        }
        self._paths = {
            field: compile_template(origin.template, field).paths
            for field, origin in mapping.origins.items()
            if field in _READABLE or field == "occurred_at"
        }
        # An inferred name is that of the person whose address counts.
        for field in ("contact.first_name", "contact.last_name"):
            if field in self._paths:
                self._paths[field] -= self._paths.get("contact.email", frozenset())

    def add(self, observation: Observation) -> None:
        """Count the values of a record."""
        record, is_opt_out = observation.record, self._mapping.suppress is not None
        if is_opt_out:
            if observation.outcome is Outcome.INVALID:
                self.unreadable.update(self._unreadable_columns("suppress", record))
            return
        self.records += 1
        found = {
            field: _value_of(read, record) for field, read in self._readers.items()
        }
        unreadable: list[str] = []
        for field in FIELDS:
            if _is_filled(field, found.get(field)):
                self.filled[field] += 1
            else:
                unreadable += self._unreadable_columns(field, record)
        self.unreadable.update(dict.fromkeys(unreadable, 1))  # each column once
        properties = _value_of(self._mapping.properties, record) or {}
        for name, value in properties.items():
            self.filled[f"properties.{name}"] += is_filled(value)
        email = str(found.get("contact.email") or "")
        domain = found.get("account.domain") or (
            email.rpartition("@")[2] if people.is_email(email) else ""
        )
        if domain:
            self.domains[domain] += 1

    def _unreadable_columns(self, field: str, record: dict[str, Any]) -> list[str]:
        found = []
        read = _READABLE.get(field)
        for path in sorted(self._paths.get(field, ()), key=str):
            value = path_reader(path)(record)
            if isinstance(value, str) and people.stands_for_nothing(value):
                continue
            if read is None:
                is_bad = is_filled(value) and likely_event_time_from(value) is None
            else:
                is_bad = isinstance(value, str) and not read(value)
            if is_bad:
                found.append(path_text(path))
        return found

    def share(self, field: str) -> float:
        """Return the share of records that fill a field, from 0 to 1."""
        return self.filled[field] / self.records if self.records else 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the counts by field, column and domain, without zeros."""
        names = dict.fromkeys([*FIELDS, *self.filled]) if self.records else {}
        empty = {name: self.records - self.filled[name] for name in names}
        return {
            "empty": {name: count for name, count in empty.items() if count},
            "unreadable": dict(+self.unreadable),
            "domains": dict(self.domains.most_common(_TOP)),
        }


def _value_of(read: Callable[[dict[str, Any]], Any], record: dict[str, Any]) -> Any:  # noqa: ANN401 - any value of a record
    try:
        return read(record)
    except InvalidSignalError:
        return None


def _is_filled(field: str, value: object) -> bool:
    """Return whether a field has a value that Stairoids accepts."""
    if not isinstance(value, str):
        return False
    if field == "contact.email":
        return people.is_email(value)
    return people.is_domain(value) if field == "account.domain" else bool(value)
