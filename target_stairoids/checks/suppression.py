"""Suppression: people and companies that must never get a signal."""

from __future__ import annotations

import csv
import logging
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from stairoids_common.text import counted
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.people_and_companies import (
    entry_of,
    is_domain,
    is_email,
    is_page,
)

if TYPE_CHECKING:
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.ledger.transaction import Transaction
    from target_stairoids.settings import Settings

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Columns with entries in the header of an exported table, the best first.
_HEADERS = (
    re.compile(r".*(?:mail|recipient)(?:\W?address)?"),
    re.compile(r".*(?:address|domain(?:\W?name)?|website|company)"),
)
_WILDCARD = re.compile(r"\*+|\?|\[[^\]]+\]")
_COMMENT = re.compile(r"(?:^|\s)#.*")
_BLANK = " \t\"'\u200b\ufeff,;|"
_MAX_TRIES = 20_000


class SuppressionList:
    """Email addresses, domains with their subdomains, and patterns.

    Args:
        entries: `example.com`, `ann@example.com`, or a pattern with `*` or `?` for
            addresses and domains, with the place of each for errors.

    Raises:
        ConfigError: An entry can match nothing. The message names its place only.

    Attributes:
        digest: Differs between two lists; "" for an empty one.
    """

    def __init__(self, entries: Iterable[tuple[str, str]]) -> None:
        self._names: set[str] = set()
        patterns: set[str] = set()
        for place, text in entries:
            name = _entry_in(text, place)
            (patterns if _WILDCARD.search(name) else self._names).add(name)
        self._pattern_count = len(patterns)
        joined = "|".join(translate(pattern) for pattern in sorted(patterns))
        self._pattern = re.compile(joined) if joined else None
        text = "\n".join([*sorted(self._names), joined])
        self.digest = sha256(text.encode()).hexdigest() if self._names or joined else ""

    @classmethod
    def of(cls, settings: Settings) -> SuppressionList:
        """Return the list of the settings `suppress` and `suppress_path`."""
        listed = enumerate(settings.suppress, 1)
        entries = [
            (f"Entry {number} of `suppress`", text)
            for number, text in listed
            if text.strip()
        ]
        return cls([*entries, *_lines_of(settings.suppress_path)])

    def hides(self, names: Sequence[str]) -> bool:
        """Return whether one of the names of a signal is on the list."""
        if not self._names.isdisjoint(names):
            return True
        return self._pattern is not None and any(map(self._pattern.match, names))

    def __str__(self) -> str:
        """Return how many entries there are."""
        emails = sum("@" in name for name in self._names)
        parts = [
            counted(emails, "address", "addresses"),
            counted(len(self._names) - emails, "domain"),
        ]
        if self._pattern_count:
            parts.append(counted(self._pattern_count, "pattern"))
        return f"{', '.join(parts[:-1])} and {parts[-1]}"


class Suppression:
    """Everybody who gets no signal now: by the settings, and by data in the ledger.

    Attributes:
        by_settings: The entries of the settings.
        by_data: The entries of records.
    """

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.by_settings = SuppressionList.of(settings)
        self.by_data = ledger.suppressed
        if settings.suppress or settings.suppress_path:
            level = logging.INFO if self.by_settings.digest else logging.WARNING
            logger.log(level, "Suppression: %s.", self.by_settings)

    def hidden(
        self, names: Mapping[T, Sequence[str]], transaction: Transaction | None = None
    ) -> set[T]:
        """Return the signals, or records, with a name that is on the list now.

        `names` has for each the entries that would suppress it.
        """
        hides = self.by_settings.hides
        hidden = {one for one, its in names.items() if hides(its)}
        asked = {name for its in names.values() for name in its}
        if listed := self.by_data.listed(asked, transaction):
            hidden |= {one for one, its in names.items() if not listed.isdisjoint(its)}
        return hidden

    def is_empty(self, transaction: Transaction | None = None) -> bool:
        """Return whether there is no entry at all."""
        return not self.by_settings.digest and self.by_data.is_empty(transaction)


def _entry_in(text: str, place: str) -> str:
    """Return the cleaned entry, or the pattern, in a text or its first CSV column."""
    cells = _cells_of(text) or [""]
    for cell in (text, cells[0]):
        name = entry_of(cell) or cell.strip("\"' \t\u200b").lower()
        if _can_match(name) and not is_page(cell):
            break
    else:
        raise ConfigError(
            f"{place} can match no person and no company. Write an address such as "
            "ann@example.com, a domain such as example.com, or a pattern such as "
            "*@example.com."
        )
    others = {entry for cell in cells[1:] if (entry := entry_of(cell))} - {name}
    if any(map(_is_pattern, cells[1:])) or any(
        "@" in other or "@" not in name for other in others
    ):
        raise ConfigError(
            f"{place} names two people or companies. Write one per entry."
        )
    return name


def _is_pattern(cell: str) -> bool:
    """Return whether a cell beside an entry is a pattern such as `*@acme.com`."""
    name = cell.strip(_BLANK).lower()
    has_wildcard = _WILDCARD.search(name) and not {"@", "."}.isdisjoint(name)
    return bool(has_wildcard) and _can_match(name)


def _cells_of(text: str) -> list[str]:
    """Return the columns of a line of CSV with any of the usual separators."""
    try:
        return max(
            (next(csv.reader([text], delimiter=mark), [text]) for mark in ",;\t|"),
            key=len,
        )
    except csv.Error:
        return [text]


def _can_match(name: str) -> bool:
    """Return whether an entry is an address or a domain, or a pattern of one."""
    parts = re.split(rf"({_WILDCARD.pattern})", name)
    choices = [
        _choices_of(part) if place % 2 else [part] for place, part in enumerate(parts)
    ]
    if math.prod(map(len, choices)) > _MAX_TRIES:
        return True
    tries = map("".join, product(*choices))
    return any(is_email(text) or is_domain(text) for text in tries)


def _choices_of(wildcard: str) -> Sequence[str]:
    """Return texts that a wildcard matches, enough to try whether a pattern matches."""
    if wildcard[0] == "*":
        return ("a", "", "aa", ".aa", "aa.aa", "@a.aa", "a@a.aa")
    if wildcard[0] == "?" or wildcard[1] == "!":
        return "a1.@-_"
    return wildcard[1:-1]


def _lines_of(path: str | None) -> Iterator[tuple[str, str]]:
    """Yield the entries of a suppression file with their places.

    `#` starts a comment. The header of a table is left out. It says which column has
    the entries; without one it is the first.

    Raises:
        ConfigError: It cannot be read.
    """
    if not path:
        return
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"The file of `suppress_path` cannot be read: {why}."
        raise ConfigError(msg) from None
    name, column = Path(path).name, None
    for number, line in enumerate(text.split("\n"), 1):
        entry = _COMMENT.sub("", line)
        entry = entry if entry_of(entry) else entry.partition("#")[0]
        if not entry.strip(_BLANK):
            continue
        cells = _cells_of(entry)
        if column is None:
            found = _column_in(cells)
            column = found or 0
            if found is not None:
                continue
        if column and len(cells) > column:
            entry = "\t".join([cells.pop(column), *filter(entry_of, cells)])
        yield f"{name}, line {number} (`suppress_path`)", entry


def _column_in(header: Sequence[str]) -> int | None:
    """Return which column of a table has the entries; None if this is no header."""
    if any(map(entry_of, header)):
        return None
    names = [cell.strip(_BLANK).lower().replace("_", " ") for cell in header]
    found = (
        place
        for known in _HEADERS
        for place, name in enumerate(names)
        if known.fullmatch(name)
    )
    return next(found, None)
