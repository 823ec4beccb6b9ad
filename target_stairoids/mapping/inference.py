"""Infer templates for the fields of a signal from the names of a stream's columns.

The result is an ordinary mapping, which `stairoids-signals suggest` prints. Names are
compared in lower case without `_`, `-` and spaces. Columns of a company never fill the
contact, and columns of a person never fill the account. The time of a row's last
change, such as `updated_at`, never fills `occurred_at`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from target_stairoids.mapping.compiled import Origin
from target_stairoids.mapping.expressions.template import path_text
from target_stairoids.mapping.schema import inner_properties, may_be_scalar

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from target_stairoids.mapping.schema import StreamSchema

Json = Any  # any JSON value; narrowed where it is read
Path = tuple[str, ...]

_PERSON = "person"
_COMPANY = "company"
_ANYONE = "anyone"


#: Signal field -> names of columns that fill it, the most specific first.
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
#: A person's full name is no field of a signal, but fills first and last name.
_FULL_NAME = "contact.name"
_NAMES[_FULL_NAME] = ("contactname", "fullname", "customerfullname", "userfullname")
#: Owner of the columns -> the field that a column called `name` fills.
_FIELD_OF_NAME = {_PERSON: _FULL_NAME, _COMPANY: "account.name"}

#: Names of columns with the time of a row's last change.
_UPDATE_TIMES = frozenset(
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

#: Name of an object that taps nest columns in -> owner of these columns.
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
#: Prefixes that flattening leaves: `property_email`, `properties__email`.
_PREFIX = re.compile(
    r"^(property|properties|attributes|fields|data)(?:__|_)(?=.)", re.IGNORECASE
)
_DEEPEST = 3
#: Names of streams whose records are companies.
_COMPANIES = re.compile(
    r"(^|[-_.])(account|company|companies|organi[sz]ation|customer_account)s?$",
    re.IGNORECASE,
)

#: Signal field -> column to try in an object whose schema lists no columns.
_USUAL_NAMES = {
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
_KINDS = {
    "contact.email": "an email address",
    "contact.first_name": "a first name",
    "contact.last_name": "a last name",
    "account.domain": "a company's domain or site",
    "account.name": "a company",
    "occurred_at": "the time of an event",
    _FULL_NAME: "a person's full name",
}


def inferred_templates(schema: StreamSchema) -> dict[str, Origin]:
    """Return signal field -> the template that fills it.

    Fields for which the stream has no column are left out.
    """
    owner = _COMPANY if _COMPANIES.search(schema.name) else _ANYONE
    found = {field: list(_paths(field, schema.properties, owner)) for field in _NAMES}
    full_names = found.pop(_FULL_NAME)
    has_person = found["contact.first_name"] or found["contact.last_name"]
    if owner is _COMPANY and found["account.domain"] and not has_person:
        # The address of a company is not the address of a person.
        found["contact.email"] = [p for p in found["contact.email"] if len(p) > 1]
    origins = {
        field: Origin(_template(paths, _FILTER.get(field)), _why(field, paths))
        for field, paths in found.items()
        if paths
    }
    if full_names:
        for part in ("first_name", "last_name"):
            origin = Origin(_template(full_names, part), _why(_FULL_NAME, full_names))
            origins.setdefault(f"contact.{part}", origin)
    return origins


def update_time_columns(schema: StreamSchema) -> list[str]:
    """Return the columns that are named like the time of a row's last change."""
    return [
        name
        for name, schema in schema.properties.items()
        if _simple(name) in _UPDATE_TIMES and may_be_scalar(schema)
    ]


def _paths(
    field: str, properties: Mapping[str, Json], owner: str, depth: int = 1
) -> Iterator[Path]:
    """Yield the paths that may fill a signal's field, the best one first.

    Args:
        owner: The kind of thing that the properties describe.
    """
    if not properties:
        if field in _USUAL_NAMES:
            yield (_USUAL_NAMES[field],)
        return
    yield from _matching(field, properties, owner)
    if depth == _DEEPEST:
        return
    by_simple_name = {_simple(name): name for name in properties}
    for simple, inner_owner in _OBJECTS.items():
        name = by_simple_name.get(simple)
        inner = None if name is None else inner_properties(properties[name])
        if name is None or inner is None or not _may_fill(field, inner_owner):
            continue
        next_owner = owner if inner_owner is _ANYONE else inner_owner
        for path in _paths(field, inner, next_owner, depth + 1):
            yield (name, *path)


def _may_fill(field: str, owner: str) -> bool:
    """Return whether columns of an owner may fill a signal's field."""
    groups = {_PERSON: "contact.", _COMPANY: "account."}
    return field.startswith(groups.get(owner, ""))


def _matching(field: str, properties: Mapping[str, Json], owner: str) -> Iterator[Path]:
    """Yield the columns with a name for the field, the most specific first."""
    places: dict[str, Path] = {}
    for name, schema in properties.items():
        if may_be_scalar(schema):
            places[_simple(name)] = (name,)
        elif "value" in (inner_properties(schema) or ()):
            places.setdefault(_simple(name), (name, "value"))  # HubSpot's form
    names = _NAMES[field]
    if _FIELD_OF_NAME.get(owner) == field:
        names = (*names, "name")
    for simple in names:
        if simple in places:
            yield places[simple]


def _simple(name: str) -> str:
    """Return a column's name without prefix, in lower case, letters and digits only."""
    return re.sub(r"[\W_]", "", _PREFIX.sub("", name)).lower()


def _template(paths: Sequence[Path], filter_name: str | None) -> str:
    """Return a template that takes the first path with a value."""
    suffix = f" | {filter_name}" if filter_name else ""
    return "{{ " + " or ".join(path_text(p) + suffix for p in paths) + " }}"


def _why(field: str, paths: Sequence[Path]) -> str:
    places = ", then ".join(f"`{'.'.join(path)}`" for path in paths)
    return f"named like {_KINDS[field]}: {places}"
