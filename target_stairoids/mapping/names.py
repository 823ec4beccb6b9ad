"""Clean the names of people and companies.

A text that certainly is no name gives None. The words are in
`people_and_companies.toml`.
"""

from __future__ import annotations

import html
import re
from contextlib import suppress
from functools import lru_cache
from itertools import takewhile

from target_stairoids.mapping.people_and_companies import (
    CACHED,
    DATA,
    of_text,
    stands_for_nothing,
    visible,
)

#: Text that only a computer uses as a name: numbers, UUIDs, hashes, prefixed ids.
#: `1&1` and `3 + 4` are names of companies.
_ID = re.compile(
    r"(?!\d+ ?[&+] ?\d+\Z)[\W\d_]+"
    r"|(?=.*\d)[0-9a-f]{8}-?[0-9a-f-]{8,}|[a-z]{2,5}_(?=.*\d)\w{8,}"
    r"|(?:00[1-9a-z]|a[0-9].)(?=.*\d)[a-z0-9]{12}(?:[a-z0-9]{3})?"
    r"|(?=(?:.*?\d[a-z]+){3})[a-z0-9]{20,36}",
    re.IGNORECASE,
)
#: The start of a URL or formula, or an address.
_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://|www\.|mailto:|=|.*@", re.IGNORECASE | re.DOTALL
)
_LONGEST_NAME = 200  # characters; a longer text is no person's name
#: Text in brackets, and a nickname in quotes.
_BRACKETED = re.compile(
    r"\s*[(\[][^()\[\]]*[)\]]"
    r"|(?<=\s)[\"'\u2018\u201c\u201e][^\"'\u2019\u201c\u201d]+[\"'\u2019\u201c\u201d](?=\s)"
)
#: Emoji and other pictures, with the joiners between them.
_SYMBOLS = re.compile(r"[\u2190-\u2bff\ufe0f\u200d\U0001f000-\U0001faff]")
#: `{{ first_name }}`, `{first_name}`, `%FNAME%`, `*|FNAME|*`, `<b>`, a URL, a remark.
_TEMPLATE = re.compile(
    r"\{\w*[{}]|\A[\[{].*[\]}]\Z|%\w+%|\*\||</?[a-z][^<>]*>|://"
    r"|\bdo not (?:use|contact|call|e?mail)\b|[*\u2022]{2}|\ufffd",
    re.IGNORECASE,
)
#: `&amp;`. Python also finds `&cent` in `Food&centre`.
_ENTITY = re.compile(r"&#?\w+;")
#: Control characters, and halves of surrogate pairs.
_CONTROL = re.compile("[\0-\x1f\x7f\ud800-\udfff]")
#: A whole name in quotes.
_QUOTED = re.compile(r"([\"'\u201c\u201e\xab])(.*)[\"'\u201d\u201c\xbb]")
#: More than one person, or a person with a rank, a place or an employer.
_SEVERAL = re.compile(
    r"[&+/|;]| (?:and|und|et|en|of|from|via|at|for|by|the|n\u00e9e?|nee|geb\.|"
    r"[-\u2013\u2014]) "
)
_USER = re.compile(r"[a-z\d]+(?:[._][a-z\d]+)+")  # `ada.lovelace`
_CREDENTIALS = re.compile("[A-Z]{2,6}")  # behind a name, such as FRSA


@lru_cache(maxsize=CACHED)
def clean_name(text: str) -> str | None:
    """Return a first, last or company name; None if it certainly is no name.

    Numbers, ids, addresses, URLs, words such as `N/A`, and templates are no names.
    """
    text = visible(_repaired(text))
    text = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
    text = _CONTROL.sub(" ", text)
    text = " ".join(text.split()).strip(",;: ")
    while found := _QUOTED.fullmatch(text):
        text = found[2].strip(",;: ")
    if stands_for_nothing(text) or _ID.fullmatch(text) or _URL.match(text):
        return None
    return None if text.lower() in DATA.no_names or _TEMPLATE.search(text) else text


def _repaired(text: str) -> str:
    """Return a text without the mistake of reading UTF-8 as Latin."""
    for encoding in () if text.isascii() else ("cp1252", "latin-1"):
        with suppress(UnicodeError):
            return text.encode(encoding).decode()
    return text


@lru_cache(maxsize=CACHED)
def names_of_person(text: str) -> tuple[str | None, str | None]:
    """Return first and last name of `Dr. Ada Lovelace, PhD` or `Lovelace, Ada`."""
    title, name = _words_of_person(text)
    last, comma, first = (part.strip() for part in name.partition(","))
    if "," in first or _SEVERAL.search(f" {name} ") or _USER.fullmatch(name):
        return None, None
    if comma:
        first = _words_of_person(first)[1]
        has_degree = _CREDENTIALS.fullmatch(first) and not last.isupper()
        is_whole = (title and last[:1].isupper()) or has_degree or not first
        if is_whole and " " in last:  # `Dr. Ada King, Countess`, or `Ada King, FRSA`
            return None, None
    else:
        words = name.split()
        capitals = "".join(takewhile(str.isupper, words))
        is_first = not name.isupper() and len(capitals) > 2 and "." not in capitals
        has_father = len(words) > 2  # `Ivan Ivanovich Ivanov`
        if is_first or (has_father and words[-1].endswith(DATA.patronymics)):
            return None, None  # `DUPONT Jean`, where the family's name comes first
        if has_father and words[1].endswith(DATA.patronymics):
            del words[1]
        first, last = " ".join(words[:1]), " ".join(words[1:])
        if (title and not last) or (first in DATA.particles and not last.islower()):
            first, last = "", name  # `Dr. Lovelace`, `von Stein`
    # `ada99`, or a script of East Asia, where the family's name comes first.
    if any(part.isdigit() or "\u3040" <= part <= "\ud7af" for part in first):
        return None, None
    return first or None, last or None


@lru_cache(maxsize=CACHED)
def _words_of_person(text: str) -> tuple[bool, str]:
    """Return whether a name had a title, and the name without titles and suffixes."""
    text = text if len(text) <= _LONGEST_NAME and not _TEMPLATE.search(text) else ""
    while (shorter := _BRACKETED.sub("", text)) != text:
        text = shorter
    name = clean_name(_SYMBOLS.sub("", text)) or ""
    parts = name.replace(",", " , ").split()
    has_title = False
    while parts and (title := _title_of(parts[0])) is not None:
        has_title, parts[:1] = True, [title] if title else []
    while parts and (count := _length_of_last(parts, DATA.suffixes)):
        del parts[-count:]
    if parts and (
        parts[0] in DATA.company_starts or _length_of_last(parts, DATA.company_forms)
    ):
        return False, ""
    if not any(map(clean_name, parts)):  # `null null`, `Guest Customer`
        return has_title, ""
    rest = " ".join(parts).replace(" ,", ",")
    return has_title, rest if rest == name else clean_name(rest) or ""


def _title_of(word: str) -> str | None:
    """Return the rest of a word that begins with a title; None if it does not."""
    if word == "," or _is_one_of(word, DATA.titles):
        return ""
    title, dot, rest = word.partition(".")  # `Dr.Ada`
    is_title = dot and len(rest.strip(".")) > 1 and _is_one_of(title + dot, DATA.titles)
    return rest if is_title else None


def _length_of_last(parts: list[str], words: frozenset[str]) -> int:
    """Return how many of the last parts are one word: 2 for `Ph. D.`, 0 for none."""
    if parts[-1] == "," or _is_one_of(parts[-1], words):
        return 1
    for count in (2, 3) if parts[-1].endswith(".") else ():
        joined = re.sub(r"\W", "", "".join(parts[-count:])).lower()
        if len(joined) > 2 and joined in words:
            return count
    return 0


def _is_one_of(word: str, words: frozenset[str]) -> bool:
    """Return whether a word is in a list, where capitals count only if listed."""
    bare = re.sub(r"[\W_]", "", word)
    return not words.isdisjoint((word, word.lower(), bare, bare.lower()))


company_name_from = of_text(clean_name)
#: Returns a first or last name without titles and suffixes; None if it is none.
person_name_from = of_text(lambda text: _words_of_person(text)[1] or None)
