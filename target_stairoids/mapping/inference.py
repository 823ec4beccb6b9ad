"""Inference: how a stream's records become signals when no mapping says so.

What is inferred is a mapping like any other, which `stairoids-signals suggest` prints.
Names are compared in lower case without `_`, `-` and spaces, the most specific first.
A field of a company never becomes a person, and an `updated_at` never becomes
`occurred_at`: it says when the row was touched, not when the thing happened.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from target_stairoids.mapping.schema import inner_properties, may_be_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from target_stairoids.mapping.schema import StreamSchema

Json = Any  # what JSON can hold; narrowed where it is read
Path = tuple[str, ...]

_PERSON = "person"
_COMPANY = "company"
_ANYONE = "anyone"


@dataclass(frozen=True, slots=True)
class Guess:
    """How one field of a signal is filled without a mapping.

    Attributes:
        template: As a mapping would say it.
        why: The reason, in words for the operator.
    """

    template: str
    why: str


#: Signal field -> names of fields that fill it, the most specific first.
_NAMES: dict[str, tuple[str, ...]] = {
    "contact.email": (
        "contactemail",
        "useremail",
        "customeremail",
        "workemail",
        "businessemail",
        "emailaddress",
        "primaryemail",
        "email",
        "receiptemail",
        "personemail",
        "leademail",
        "billingemail",
        "hsemail",
    ),
    "contact.first_name": (
        "contactfirstname",
        "customerfirstname",
        "userfirstname",
        "firstname",
        "givenname",
    ),
    "contact.last_name": (
        "contactlastname",
        "customerlastname",
        "userlastname",
        "lastname",
        "surname",
        "familyname",
    ),
    "account.domain": (
        "accountdomain",
        "companydomain",
        "companydomainname",
        "organizationdomain",
        "organisationdomain",
        "domain",
        "domainname",
        "hsemaildomain",
        "accountwebsite",
        "companywebsite",
        "companyurl",
        "organizationurl",
        "website",
        "websiteurl",
        "homepage",
        "homepageurl",
    ),
    "account.name": (
        "accountname",
        "companyname",
        "organizationname",
        "organisationname",
        "company",
        "organization",
        "organisation",
    ),
    "occurred_at": (
        "occurredat",
        "occurredon",
        "happenedat",
        "eventtime",
        "eventtimestamp",
        "eventdatetime",
        "eventat",
        "originaltimestamp",
    ),
}
#: A person's whole name is no field of a signal, but two of them are made of it.
_WHOLE_NAME = "contact.name"
_NAMES[_WHOLE_NAME] = ("contactname", "fullname", "customerfullname", "userfullname")
#: What a bare `name` is depends on whose it is.
_NAME_OF = {_PERSON: _WHOLE_NAME, _COMPANY: "account.name"}

#: Columns that tell when a row was written, which is no news about anybody.
_TOUCHES = frozenset(
    {
        "updatedat",
        "updatedon",
        "updateddate",
        "updatetime",
        "dateupdated",
        "lastupdate",
        "lastupdated",
        "lastupdatedat",
        "lastupdateddate",
        "modifiedat",
        "modifiedon",
        "modifieddate",
        "datemodified",
        "lastmodified",
        "lastmodifiedat",
        "lastmodifiedon",
        "lastmodifieddate",
        "hslastmodifieddate",  # HubSpot
        "systemmodstamp",  # Salesforce
    }
)

#: Objects in which taps nest what they know, and whom they are about.
_OBJECTS: dict[str, str] = {
    "properties": _ANYONE,  # HubSpot, PostHog
    "attributes": _ANYONE,  # Klaviyo and other JSON:API sources
    "fields": _ANYONE,
    "data": _ANYONE,
    "traits": _PERSON,  # Segment
    "context": _PERSON,
    "contact": _PERSON,
    "user": _PERSON,
    "customer": _PERSON,
    "customerdetails": _PERSON,  # Stripe's checkout sessions
    "billingdetails": _PERSON,  # Stripe's charges
    "person": _PERSON,
    "profile": _PERSON,
    "lead": _PERSON,
    "commit": _PERSON,  # GitHub: commit.author.email
    "author": _PERSON,
    "account": _COMPANY,  # Salesforce
    "company": _COMPANY,
    "organization": _COMPANY,
    "organisation": _COMPANY,
}
#: What flattening leaves of the objects above: `property_email`, `properties__email`.
_PREFIX = re.compile(
    r"^(property|properties|attributes|fields|data)(?:__|_)(?=.)", re.IGNORECASE
)
_DEEPEST = 3
#: Streams whose records are companies: an `email` of theirs is nobody's.
_COMPANIES = re.compile(
    r"(^|[-_.])(account|company|companies|organi[sz]ation|customer_account)s?$",
    re.IGNORECASE,
)

#: What an object may be asked for when its schema does not list its fields.
_USUAL = {
    "contact.email": "email",
    "contact.first_name": "first_name",
    "contact.last_name": "last_name",
    "account.domain": "domain",
}
_FILTER = {
    "contact.email": "email",
    "account.domain": "company_domain",
    "occurred_at": "iso8601",
}
_WHAT = {
    "contact.email": "an e-mail address",
    "contact.first_name": "a first name",
    "contact.last_name": "a last name",
    "account.domain": "a company's domain or site",
    "account.name": "a company",
    "occurred_at": "the time of an event",
    _WHOLE_NAME: "a person's whole name",
}


def guesses_for(schema: StreamSchema) -> dict[str, Guess]:
    """Return signal field -> how a stream's records may fill it.

    Fields for which the stream offers nothing are left out.
    """
    whom = _COMPANY if _COMPANIES.search(schema.name) else _ANYONE
    found = {field: list(_paths(field, schema.properties, whom)) for field in _NAMES}
    whole_names = found.pop(_WHOLE_NAME)
    names_a_person = found["contact.first_name"] or found["contact.last_name"]
    if whom is _COMPANY and found["account.domain"] and not names_a_person:
        # The address of a company is not a person's.
        found["contact.email"] = [p for p in found["contact.email"] if len(p) > 1]
    guesses = {
        field: Guess(_template(paths, _FILTER.get(field)), _why(field, paths))
        for field, paths in found.items()
        if paths
    }
    if whole_names:
        for part in ("first_name", "last_name"):
            guess = Guess(_template(whole_names, part), _why(_WHOLE_NAME, whole_names))
            guesses.setdefault(f"contact.{part}", guess)
    return guesses


def touches_in(schema: StreamSchema) -> list[str]:
    """Return the columns that tell when a row was written.

    A change of nothing else makes no other signal.
    """
    return [
        name
        for name, schema in schema.properties.items()
        if _simple(name) in _TOUCHES and may_be_scalar(schema)
    ]


def _paths(
    field: str, properties: Mapping[str, Json], whom: str, depth: int = 1
) -> Iterator[Path]:
    """Yield where a signal's field may be read, the best place first.

    Args:
        whom: Whom the properties are about.
    """
    if not properties:
        if field in _USUAL:
            yield (_USUAL[field],)
        return
    yield from _matching(field, properties, whom)
    if depth == _DEEPEST:
        return
    for name, of_whom in _objects(properties):
        inner = inner_properties(properties[name])
        if inner is not None and _fits(field, of_whom):
            inner_whom = whom if of_whom is _ANYONE else of_whom
            for path in _paths(field, inner, inner_whom, depth + 1):
                yield (name, *path)


def _objects(properties: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    by_simple_name = {_simple(name): name for name in properties}
    for simple, of_whom in _OBJECTS.items():
        if simple in by_simple_name:
            yield by_simple_name[simple], of_whom


def _fits(field: str, of_whom: str) -> bool:
    """Say whether an object may fill a field: a person's never a company's."""
    if of_whom is _PERSON:
        return field.startswith("contact.")
    if of_whom is _COMPANY:
        return field.startswith("account.")
    return True


def _matching(field: str, properties: Mapping[str, Json], whom: str) -> Iterator[Path]:
    """Yield the fields whose names fit, the most specific first."""
    places: dict[str, Path] = {}
    for name, schema in properties.items():
        if may_be_scalar(schema):
            places[_simple(name)] = (name,)
        elif "value" in (inner_properties(schema) or ()):
            places.setdefault(_simple(name), (name, "value"))  # as HubSpot wraps it
    names = _NAMES[field]
    if _NAME_OF.get(whom) == field:
        names = (*names, "name")
    for simple in names:
        if simple in places:
            yield places[simple]


def _simple(name: str) -> str:
    return re.sub(r"[\W_]", "", _PREFIX.sub("", name)).lower()


def _template(paths: Sequence[Path], filter_name: str | None) -> str:
    """Return a template that takes the first of several places that is filled."""
    suffix = f" | {filter_name}" if filter_name else ""
    return "{{ " + " or ".join(spelling(p) + suffix for p in paths) + " }}"


def spelling(path: Path) -> str:
    """Return a path as an expression spells it."""
    if (
        all(re.fullmatch(r"[^\W\d]\w*", part) for part in path)
        and path[0] not in _WORDS
    ):
        return ".".join(path)
    return "record" + "".join(f"[{json.dumps(p, ensure_ascii=False)}]" for p in path)


#: Names that mean something else to Jinja than a field.
_WORDS = {"record", "true", "false", "none", "True", "False", "None", "self"}
_WORDS |= {"and", "or", "not", "in", "is", "if", "else"}


def _why(field: str, paths: Sequence[Path]) -> str:
    return f"named like {_WHAT[field]}: " + ", then ".join(map(_spelt, paths))


def _spelt(path: Path) -> str:
    return f"`{'.'.join(path)}`"
