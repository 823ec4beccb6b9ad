"""Suppression: people and companies that must never get a signal."""

from __future__ import annotations

import csv
import logging
import math
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import translate
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import TypeVar

from stairoids_common.text import counted
from target_stairoids.exceptions import ConfigError
from target_stairoids.ledger.ledger import Ledger
from target_stairoids.mapping.people_and_companies import (
    MARKS,
    entry_of,
    is_domain,
    is_email,
)
from target_stairoids.mapping.privacy import simple_name
from target_stairoids.settings import Settings

T = TypeVar("T")

logger = logging.getLogger(__name__)

#: Columns with entries in the header of an exported table, the best first.
_HEADERS = (
    re.compile(
        r".*(?:e?mail|recipient|courriel|correo)(?:address|adresse?|electronico)?"
    ),
    re.compile(r".*(?:add?ress?e?|electronique|domain(?:name)?|website|company)"),
)
_WILDCARD = re.compile(r"\*+|\?|\[[^\]]+\]")
#: Excel writes `sep=;` in front of a table.
_COMMENT = re.compile(r"(?:^|\s)#.*|^sep=.\s*$")
#: A line that is a comment elsewhere. A second `;` makes it a line of a table.
_COMMENTED = re.compile(r"\s*(?:#|//|;[^;]*$)")
_BLANK = " \t\"'\u200b\ufeff,;|"
_MAX_TRIES = 20_000


class SuppressionList:
    """Email addresses, domains with their subdomains, and patterns.

    An entry has a place, for errors, and a text: `example.com`, `ann@example.com`, or a
    pattern of these with `*` or `?`. If an entry can match nothing, a `ConfigError` has
    its place only. `digest` identifies the list; "" for an empty one.
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
    """The people and companies without signals: by the settings, and by data."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.by_settings = SuppressionList.of(settings)
        self.by_data = ledger.suppressed
        if settings.suppress or settings.suppress_path:
            level = logging.INFO if self.by_settings.digest else logging.WARNING
            logger.log(level, "Suppression: %s.", self.by_settings)

    def hidden(self, names: Mapping[T, Sequence[str]]) -> set[T]:
        """Return the signals, or records, with a name that is on the list now.

        `names` maps each of them to the entries that would suppress it.
        """
        hides = self.by_settings.hides
        hidden = {one for one, its in names.items() if hides(its)}
        asked = {name for its in names.values() for name in its}
        if listed := self.by_data.listed(asked):
            hidden |= {one for one, its in names.items() if not listed.isdisjoint(its)}
        return hidden


def _entry_in(text: str, place: str) -> str:
    """Return the cleaned entry, or the pattern, in a text or in one of its columns."""
    cells = _cells_of(text)
    if _COMMENTED.match(text) or any(map(_is_marked, cells)):
        raise ConfigError(
            f"{place} begins with a mark such as `!`, `-` or `//`, which may negate "
            "it. Remove the mark, or the entry."
        )
    found = list(filter(None, map(_name_in, [text, *cells])))
    if not found and len(cells) == 1 and _can_match(pattern := _bare(text)):
        found = [pattern]  # such as `acme*`
    if not found:
        raise ConfigError(
            f"{place} can match no person and no company. Write an address such as "
            "ann@example.com, a domain such as example.com, or a pattern such as "
            "*@example.com."
        )
    name, *others = dict.fromkeys(found)
    # An address may have the domain of its company beside it.
    if any("@" not in name or not {"@", "*", "?", "["}.isdisjoint(o) for o in others):
        raise ConfigError(
            f"{place} names two people or companies. Write one per entry."
        )
    return name


def _name_in(cell: str) -> str | None:
    if name := entry_of(cell):
        return name
    name = _bare(cell)
    is_pattern = _WILDCARD.search(name) and not {"@", "."}.isdisjoint(name)
    return name if is_pattern and _can_match(name) else None


def _is_marked(cell: str) -> bool:
    """Return whether a mark changes a cell, as `-` makes `-ann@x.com` of an address."""
    bare = cell.lstrip(MARKS)
    return bare != cell and _name_in(bare) != _name_in(cell)


def _bare(text: str) -> str:
    return text.strip(_BLANK).lower()


def _cells_of(text: str) -> list[str]:
    """Return the columns of a line of CSV with any of the usual separators."""
    try:
        readers = (csv.reader([text], delimiter=m) for m in ",;\t|" if m in text)
        return max((next(r, [text]) for r in readers), key=len, default=[text])
    except csv.Error:
        return [text]


def _can_match(name: str) -> bool:
    head, dot, end = name.rpartition(".")
    if dot and _WILDCARD.search(end):  # any top level
        name = f"{head}.*"
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
        return ("a", "", "de", ".de", "aa.de", "@a.de", "a@a.de")
    if wildcard[0] == "?" or wildcard[1] == "!":
        return "a1.@-_"
    return wildcard[1:-1]


def _lines_of(path: str | None) -> Iterator[tuple[str, str]]:
    """Yield the entries of a suppression file with their places.

    `#` starts a comment. The header of a table names the column with the entries. A
    line of a table without a header has one column with an entry.
    """
    if not path:
        return
    try:
        content = Path(path).read_bytes()
        is_utf16 = content.startswith((BOM_UTF16_LE, BOM_UTF16_BE))  # of Excel
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        msg = f"The file of `suppress_path` cannot be read: {why} ({path})."
        raise ConfigError(msg) from None
    name = Path(path).name
    columns: Sequence[int] | None = None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):
        entry = _COMMENT.sub("", line)
        entry = entry if entry_of(entry) else entry.partition("#")[0]
        if not entry.strip(_BLANK):
            continue
        cells = _cells_of(entry)
        if columns is None and (columns := _columns_in(cells)):
            continue
        if columns:
            entry = "\t".join(cells[place] for place in columns if place < len(cells))
        yield f"{name}, line {number} (`suppress_path`)", entry


def _columns_in(header: Sequence[str]) -> Sequence[int]:
    """Return the columns of a table that have the entries; empty if it is no header."""
    if any(map(entry_of, header)):
        return ()
    names = list(map(simple_name, header))
    found = (
        [place for place, name in enumerate(names) if known.fullmatch(name)]
        for known in _HEADERS
    )
    return next(filter(None, found), ())
