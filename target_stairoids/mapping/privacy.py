"""Columns that inference leaves out for privacy, and records that it filters.

The names are in `private_columns.toml`. A mapping can name each column.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from functools import lru_cache
from pathlib import Path

import msgspec

from target_stairoids.mapping.people_and_companies import stands_for_nothing
from target_stairoids.mapping.schema import is_loaders
from target_stairoids.mapping.times import is_placeholder

_CACHED = 4096  # names of columns
_SCALARS = (str, int, float, Decimal)
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+|[0-9]+")
#: Dates that stand for no date, such as the open end of a row that is valid now. Other
#: dates before 1971 may be birthdays.
_NEVER = re.compile(
    r"(?:(?!1\d{3}|20[0-8]\d|209[0-8])\d{4}-\d\d-\d\d|1899-12-3[01]|1900-01-01"
    r"|1970-01-01|(?:31[./]12|12/31)[./](?:[29]999|2099)\b).*|[+-]?infinity"
    r"|253402\d{6}(?:\d{3})*",  # a Unix time of the last day of 9999
    re.DOTALL,
)
#: Zeros and marks between them, as in `00/00/0000`. A tick in a box is none.
_ZEROS = re.compile(r"(?!.*[\u2611\u2612\u2705\u2713\u2714\xd7])[0\W]*", re.DOTALL)
#: An empty box, and crosses in all their forms.
_CROSSES = frozenset("\u2610\u2715\u2716\u2717\u2718\u274c")
_CROSSED_BOX = "\u2612"  # says no to a question about consent only
#: A remark after a status: `Opted out (by phone)`, `Withdrawn on 2026-01-31`.
_REMARK = re.compile(
    r"[(\[:;,]| [-\u2013\u2014] | (?:on|by|via|at|since|am|per|seit|le|el) | (?=\d)",
    re.IGNORECASE,
)


class _Data(msgspec.Struct, frozen=True):
    sensitive_parts: tuple[str, ...]
    sensitive_words: frozenset[str]
    sensitive_names: tuple[str, ...]
    opted_out: tuple[str, ...]
    refused: tuple[str, ...]
    unsubscribed: tuple[str, ...]
    refused_in: tuple[str, ...]
    has_refused: tuple[str, ...]
    consent_words: str
    generic_words: str
    other_channels: str
    answers: str
    answered_at: str
    gone: frozenset[str]
    no: frozenset[str]
    refusing: frozenset[str]
    not_refusing: frozenset[str]


_FILE = Path(__file__).with_name("private_columns.toml")
_DATA = msgspec.toml.decode(_FILE.read_bytes(), type=_Data)
_SENSITIVE = re.compile("|".join(_DATA.sensitive_parts))
_SENSITIVE_NAME = re.compile("|".join(_DATA.sensitive_names))
_FILTERS = {
    name: re.compile("|".join(getattr(_DATA, name)))
    for name in ("opted_out", "refused", "unsubscribed", "refused_in", "has_refused")
}
_CONSENT = re.compile(_DATA.consent_words)
_CONSENT_OR_GENERIC = re.compile(f"{_DATA.consent_words}|{_DATA.generic_words}")
_OTHER_CHANNEL = re.compile(_DATA.other_channels)
_ANSWERS = re.compile(f"{_CONSENT_OR_GENERIC.pattern}|{_DATA.answers}")
_ANSWERED_AT = re.compile(_DATA.answered_at)
_COLUMN_LABELS = "name", "key", "field", "label", "title"
_LINKS = "http:", "https:", "mailto:"
_LABELS = ("type", "name", "channel", "purpose", "category", "topic", "text", "label")
_SAYS_NO = (_DATA.no - _DATA.not_refusing) | _CROSSES | {_CROSSED_BOX}
#: Texts for false in a condition. `NE` and `NU` are also codes of states and countries.
_FALSE = {""} | _SAYS_NO - {"ne", "nu", _CROSSED_BOX}
_REFUSING = _DATA.refusing | _DATA.gone | _SAYS_NO
_CUSTOM = re.compile(r"^(?:[a-z][a-z0-9]*__(?=.+__p?c$))?(.+)__p?c$", re.IGNORECASE)


def simple_name(column: str) -> str:
    """Return a column's name in lower case, letters and digits only.

    Accents count as none. The marks of Salesforce's custom fields are left out:
    `pi__Email__c` is `email`.
    """
    bare = unicodedata.normalize("NFKD", _CUSTOM.sub(r"\1", column))
    return re.sub(r"[\W_]", "", bare).lower()


@lru_cache(maxsize=_CACHED)
def is_sensitive(column: str) -> bool:
    """Return whether a column is named like a secret or sensitive data."""
    simple = simple_name(column)
    if _SENSITIVE.search(simple) or _SENSITIVE_NAME.fullmatch(simple):
        return True
    words = {word.lower() for word in _WORDS.findall(column)}
    return not words.isdisjoint(_DATA.sensitive_words)


class HiddenColumns(dict[str, bool]):
    """Column -> whether `*` does not select it. `private` are the sensitive ones."""

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__(dict.fromkeys(names, True))
        self.private: set[str] = set()

    def __missing__(self, name: str) -> bool:
        is_technical = name[:5] == "_sdc_" or (name[:1] == "_" and is_loaders(name))
        if is_private := not is_technical and is_sensitive(name):
            self.private.add(name)
        self[name] = is_private or is_technical
        return self[name]

    def public(self, path: str, value: object) -> object:
        """Return a value of a record without the private fields of objects in it."""
        if isinstance(value, list):
            return [self.public(path, inner) for inner in value]
        if not isinstance(value, dict):
            return value
        private = {name for name in value if is_sensitive(str(name))}
        self.private |= {f"{path}.{name}" for name in private}
        return {
            name: self.public(f"{path}.{name}", inner)
            for name, inner in value.items()
            if name not in private
        }


def privacy_warning(stream: str, hidden: HiddenColumns) -> tuple[str, ...]:
    """Return a sentence about the columns left out for privacy; empty without any."""
    if not hidden.private:
        return ()
    names = ", ".join(f"`{column}`" for column in sorted(hidden.private))
    sentence = (
        f"Stream `{stream}`: inference leaves out {names}, named like a secret or like "
        "sensitive data. To send such a column, name it in `properties`."
    )
    return (sentence,)


@lru_cache(maxsize=_CACHED)
def consent_filter(column: str) -> str | None:
    """Return the filter that reads an opt-out from a column; None for other columns.

    `opted_out` for columns such as `is_deleted` or `unsubscribed`, `refused` for those
    such as `gdpr_consent`, `unsubscribed` for those such as `status`. `refused_in` and
    `has_refused` are for objects such as `preferences` and `settings`.
    """
    simple = simple_name(column)
    return next((n for n, names in _FILTERS.items() if names.fullmatch(simple)), None)


@lru_cache(maxsize=_CACHED)
def may_refuse(columns: tuple[str, ...]) -> bool:
    """Return whether any column has a filter that reads an opt-out."""
    return any(map(consent_filter, columns))


def opted_out(value: object) -> bool:
    """Return whether a value is filled and does not say no: true, `yes`, a time."""
    if isinstance(value, list):
        return any(isinstance(one, dict) or opted_out(one) for one in value)
    if isinstance(value, dict):
        return _has_opted_out(value)
    text = _text(value) or ""
    if text.startswith(_LINKS):  # by which a person opts out
        return False
    says_no = text in _DATA.no or _ZEROS.fullmatch(text)
    return not (says_no or _NEVER.fullmatch(text) or is_placeholder(value))


def _has_opted_out(value: Mapping[str, object]) -> bool:
    """Return whether `{value: true}`, `{email: true}` or else `{at: …}` opts out."""
    said = {
        simple_name(str(name)): inner
        for name, inner in value.items()
        if inner is not None and "@" not in str(inner)
    }
    if any(consent_filter(name) == "opted_out" for name in said):
        return has_refused(value)
    names = list(filter(_ANSWERS.fullmatch, said))
    names = names or list(filter(_ANSWERED_AT.fullmatch, said))
    return has_refused(value) or any(opted_out(said[name]) for name in names)


def is_yes(value: object) -> bool:
    """Return whether a part of a condition holds. `no`, `0.0`, `9999-12-31` do not."""
    text = str(value).strip(" \t\r\n\ufe0f").lower()
    is_no = text.strip(" 0.") in _FALSE or _NEVER.fullmatch(text)
    return bool(value) and not is_no


def is_deleted(record: Mapping[str, object], columns: Iterable[str]) -> bool:
    """Return whether one of the columns marks a record as deleted at its source."""
    values = filter(None, (record.get(name) for name in columns))
    return any(map(opted_out, values))


def refused(value: object) -> bool:
    """Return whether a value refuses: false, `no`, `{marketing: false}`."""
    text = _text(value) or ""
    if text in _SAYS_NO or refused_in(value, _CONSENT_OR_GENERIC):
        return True
    # A blank such as `not given` refuses here.
    return isinstance(value, str) and _bare(value) in _REFUSING


def refused_in(value: object, names: re.Pattern[str] = _CONSENT) -> bool:
    """Return whether an object, a list or its JSON text refuses emails or contact.

    An entry about another channel, such as `sms`, or another purpose does not count.
    `names` are those that count.
    """
    value = _decoded(value)
    if isinstance(value, list):
        return any(refused_in(inner, names) for inner in value)
    if not isinstance(value, dict):
        return False
    labels = [simple_name(str(value[name])) for name in _LABELS if name in value]
    if labels:
        if not any(map(_CONSENT.fullmatch, labels)):
            return False
        names = _CONSENT_OR_GENERIC
    return has_refused(value) or any(
        refused(inner)
        for name, inner in value.items()
        if names.fullmatch(simple_name(name))
    )


def has_refused(value: object) -> bool:
    """Return whether an object with a person's columns says that the person refuses.

    A list may have an object for each column: `[{name: "opt_out", value: true}]`.
    """
    value = _decoded(value)
    if isinstance(value, list):
        return any(map(has_refused, map(_named_column, value)))
    return isinstance(value, dict) and any(
        (
            (kind := consent_filter(name))
            and not _OTHER_CHANNEL.search(simple_name(name))
            and READERS[kind](inner)
        )
        or (
            isinstance(inner, dict)
            and _CONSENT.fullmatch(simple_name(str(name)))
            and has_refused(inner)
        )
        for name, inner in value.items()
    )


def _named_column(entry: object) -> object:
    """Return `{opt_out: true}` for `{name: "opt_out", value: true}`."""
    if not isinstance(entry, dict):
        return entry
    label = next((entry[name] for name in _COLUMN_LABELS if name in entry), None)
    return entry if label is None else {str(label): entry.get("value")}


def _decoded(value: object) -> object:
    """Return the object or list in a JSON text; any other value unchanged."""
    if isinstance(value, str) and value.lstrip()[:1] in {"{", "["}:
        with suppress(msgspec.DecodeError, RecursionError):
            return msgspec.json.decode(value)
    return value


def unsubscribed(value: object) -> bool:
    """Return whether a status says that the person has opted out."""
    return _bare(_text(value) or "") in _DATA.gone


#: Filter -> the function that reads an opt-out from a column's value.
READERS: Mapping[str, Callable[[object], bool]] = {
    function.__name__: function
    for function in (opted_out, refused, unsubscribed, refused_in, has_refused)
}


def _bare(text: str) -> str:
    """Return a status like a simple name, without a remark: `Opted out (by phone)`."""
    return simple_name(_REMARK.split(text, maxsplit=1)[0])


def _text(value: object) -> str | None:
    """Return a value as text in lower case; None if it is blank or no scalar."""
    if not isinstance(value, _SCALARS):
        return None
    text = str(value).strip().rstrip("\ufe0f").lower()
    is_word = text in _DATA.no or text == "x"  # a cross marks a box
    return text if is_word or not stands_for_nothing(text) else None
