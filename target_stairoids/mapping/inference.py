"""Infer templates for the fields of a signal from the names of a stream's columns.

Columns of a company never fill the contact, and columns of a person never fill the
account. All fields of the contact come from one object, the customer's before the
user's, and so do those of the account. The names are in `column_names.toml`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache
from itertools import product
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from target_stairoids.mapping.column_names import NAMES
from target_stairoids.mapping.expressions.paths import Path, path_text
from target_stairoids.mapping.privacy import consent_filter, simple_name
from target_stairoids.mapping.schema import (
    StreamSchema,
    inner_properties,
    may_be_scalar,
    types_of,
)
from target_stairoids.mapping.signal import Origin
from target_stairoids.mapping.times import is_time

_DEEPEST = 3
_ANY = "*"  # instead of a simple name: an object whose schema lists no columns


class Place(NamedTuple):
    """A place in a record that may fill a field; of a list, the primary item counts."""

    path: tuple[str, ...]
    is_list: bool = False


class _Object(msgspec.Struct, eq=False):
    """An object of a record: the columns that describe one person or company.

    Attributes:
        role: Its name; "" for the record.
        columns: Simple name -> the places with this name.
        is_guess: Whether its schema lists no columns, so that usual names are tried.
    """

    role: str
    owner: str
    columns: defaultdict[str, list[Place]]
    is_guess: bool = False

    def places(self, field: str, role: str | None = None, *more: str) -> list[Place]:
        """Return the places with a name for a field, the most specific first.

        With a role, only names of this role count: `customer_email` is the customer's.
        """
        columns, names = self.columns, (*_names_of(field, role), *more)
        return [place for n in names if n in columns for place in columns[n]]


_PREFIX = re.compile(rf"^({'|'.join(NAMES.prefixes)})__?(?=.)", re.IGNORECASE)
_STREAMS = {k: re.compile(n, re.IGNORECASE) for k, n in NAMES.streams.items()}
_STAFF = re.compile(
    rf"(?:{'|'.join(NAMES.staff_prefixes)})*(?:{'|'.join(NAMES.staff)})"
)
_PEOPLE_ROLES = [role for group in NAMES.people for role in group]


@cache
def _rank(role: str) -> tuple[int, int]:
    """Return the place of a role's group, and its own; a lower one is better."""
    group = next(i for i, group in enumerate(NAMES.people) if role in group)
    return group, _PEOPLE_ROLES.index(role)


@lru_cache(maxsize=65536)  # a SCHEMA may come again with one more column
def _role(name: str) -> str:
    """Return the role that a column's name begins with; "" without one."""
    return next((r for r in _PEOPLE_ROLES if r and name.startswith(r)), "")


@cache
def _names_of(field: str, role: str | None) -> tuple[str, ...]:
    """Return the names for a field; with a role, only those of this role."""
    names = NAMES.fields[field].names
    return tuple(n for n in names if role is None or role == _role(n))


#: The roles of people that columns of a record begin with.
_FLAT_ROLES = sorted(
    {
        _role(name)
        for field, spec in NAMES.fields.items()
        if field.startswith("contact.")
        for name in spec.names
    }
    - {""},
    key=_rank,
)


def why_not_inferred(schema: StreamSchema) -> str | None:
    """Return why a stream needs a mapping of its own; None if it may be inferred."""
    if NAMES.webhooks <= schema.properties.keys():
        return "has the events of Stairoids' own webhooks, which would feed themselves"
    last = re.split(r"[-.]|__", schema.name)[-1]
    if last == "User" or _STAFF.fullmatch(_simple(last)):
        return "is named like a list of your own staff"
    columns = {*map(_simple, schema.properties)}
    if any(names <= columns for names in NAMES.staff_columns):
        return "has the columns of a list of your own staff"
    if _STREAMS["opt_outs"].search(last):
        return "is named like a list of people who opted out (see `suppress`)"
    return None


def inferred_templates(
    schema: StreamSchema, email_paths: frozenset[Path] | None = None
) -> dict[str, Origin]:
    """Return signal field -> its template, for fields that have a column.

    Args:
        email_paths: The paths that a mapping's own `contact.email` reads. Then only
            this person may have a name; None to infer the address too.
    """
    is_company = _STREAMS["companies"].search(schema.name) is not None
    objects = list(_objects(schema.properties, "company" if is_company else "anyone"))
    people, found = _people(objects, schema.name, email_paths), _account(objects)
    domains = [[(place, "company_domain") for place in p.emails] for p in people]
    text, places = _by_person(people, domains)
    is_own = all(
        len(place.path) == 1 and not p.names for p in people for place in p.emails
    )
    if is_company and is_own and "account.domain" in found:
        people = []  # the address of a company is not the address of a person
    times = objects[0].places("occurred_at")
    if objects[0].columns.get("originaltimestamp"):  # Segment's, of the client's clock
        times = objects[0].columns.get("timestamp", []) + times
    if times:
        found["occurred_at"] = [(place, "iso8601") for place in times]
    origins = {f: _origin(f, _either(p), p) for f, p in found.items()}
    origins |= _contact(people)
    if places and email_paths is None:
        field = "account.domain"
        own = found.get(field, [])
        if own:
            text = f"({text})" if " if " in text else text
            text = f"{_either(own, is_alone=False)} or {text}"
        origins[field] = _origin(field, text, own + places)
    return {field: origins[field] for field in NAMES.fields if field in origins}


def consent_filters(
    schema: StreamSchema, email_paths: frozenset[Path] | None
) -> list[str]:
    """Return an expression for each column of deletion and consent of a record."""
    objects = list(_objects(schema.properties, "anyone"))
    persons = _people(objects, schema.name, email_paths)
    emails = [place for person in persons for place in person.emails]
    people, found = set(map(_owner, emails)), dict[str, None]()
    for part in objects:
        is_person = part.owner == "person"
        own = part.places("contact.email") if is_person else []
        is_its = is_person and not own and _rank(part.role) < _rank("")
        is_record = is_its or part.role in NAMES.people[_rank("")[0]]
        same = " or ".join(
            f"{_place(one)} | known and "
            f"{_place(one)} | lower | trim == {_place(other)} | lower | trim"
            for one, other in product(own, emails)
        )
        for name, places in part.columns.items():
            filter_name = "has_refused" if name == _ANY else consent_filter(name)
            # A mark such as `[flag]` is no part of a column's name.
            for place in places if filter_name and not {".", "["} & {*name} else ():
                owner = place.path if name == _ANY else _owner(place)
                text = f"{path_text(place.path)} | {filter_name}"
                if is_record or owner in people:
                    found[text] = None
                elif same:
                    found[f"{text} and ({same})"] = None
        for rule in NAMES.filters:
            if (
                rule.role not in {None, part.role}
                or (rule.beside and not rule.beside & part.columns.keys())
                or (
                    rule.streams
                    and not part.role
                    and not _STREAMS[rule.streams].search(schema.name)
                )
            ):
                continue
            places = [
                place
                for name in rule.columns
                for place in part.columns.get(name, ())
                if re.fullmatch(rule.spelt, place.path[len(_owner(place))])
            ]
            test = f"| {rule.filter}" if rule.filter else f"in {rule.values}"
            for place in places:
                if rule.role == "" or _owner(place) in people:
                    found[f"{path_text(place.path)} {test}"] = None
    return list(found)


def _owner(place: Place) -> tuple[str, ...]:
    """Return the object of a column; `{S: …}` only holds the column's value."""
    return place.path[: -2 if place.path[-1] in NAMES.values else -1]


def update_time_columns(schema: StreamSchema) -> list[str]:
    """Return the columns that are named like the time of a row's last change."""
    return [
        name
        for name, column in schema.properties.items()
        if _simple(name) in NAMES.update_times and may_be_scalar(column)
    ]


def _objects(properties: Mapping[str, Any], owner: str) -> Iterator[_Object]:
    """Yield the record itself, then the objects in it that are people or companies.

    Objects such as `properties` or `attributes` are a part of the object around them.
    """
    record = _Object("", owner, defaultdict(list))
    waiting: list[tuple[_Object, tuple[str, ...], Mapping[str, Any]]] = [
        (record, (), properties)
    ]
    while waiting:
        around, path, columns = waiting.pop(0)
        if around.role or not path:
            yield around
        if not columns:
            _guess(around, path)
        for name, schema in columns.items():
            simple = _simple(name)
            inner = inner_properties(schema)
            _add_places(around, (*path, name), schema)
            if inner is None or len(path) == _DEEPEST - 1:
                continue
            next_owner = "person" if simple in _PEOPLE_ROLES else "company"
            if simple in NAMES.parts:
                waiting.append((around, (*path, name), inner))
            elif next_owner == "person" or simple in NAMES.companies:
                within = _Object(simple, next_owner, defaultdict(list))
                waiting.append((within, (*path, name), inner))


def _add_places(around: _Object, path: tuple[str, ...], schema: object) -> None:
    """Add a column under its simple name: `email`, `emails[]`, `emailaddr.address`."""
    simple = _simple(path[-1])
    types = types_of(schema)
    if types - {"null"} == {"boolean"} and not consent_filter(simple):
        simple += "[flag]"  # `email: true` is no address
    kind, inner = consent_filter(simple), inner_properties(schema) or {}
    if "array" in types or ("object" in types and not inner):
        around.columns[f"{simple}[]"].append(Place(path, is_list=True))
    if (
        (kind and (kind != "unsubscribed" or "array" in types))
        or may_be_scalar(schema)
        or is_time(inner)
    ):
        around.columns[simple].append(Place(path))
    else:
        values = NAMES.values
        if not inner.keys() <= NAMES.types:
            values -= NAMES.types
        for name in inner:
            end = "" if name in values else f".{_simple(name)}"
            around.columns[simple + end].append(Place((*path, name)))


def _guess(around: _Object, path: tuple[str, ...]) -> None:
    """Add the usual names of columns to an object whose schema lists none."""
    around.is_guess = bool(around.role)
    if path:
        around.columns[_ANY].append(Place(path))
    group = {"person": "contact.", "company": "account."}.get(around.owner, "")
    for name, field in NAMES.fields.items():
        if field.usual and (name.startswith(group) or not around.role):
            place = Place((*path, field.usual))
            around.columns[_simple(field.usual)].append(place)


_Places = list[tuple[Place, str]]
_Found = dict[str, _Places]


class _Person(NamedTuple):
    """The places of address and names of a person, and the rank of the role."""

    emails: list[Place]
    names: _Found
    rank: tuple[int, int]
    is_guess: bool = False


def _people(
    objects: Iterable[_Object], stream: str, email_paths: frozenset[Path] | None
) -> list[_Person]:
    """Return the people of a record, of whom the first with an address is the contact.

    An object with an address comes first, then the customer's before the user's, then
    one with a name. A user may be a cashier and never replaces a customer, even one
    without an address.
    """
    is_people = _STREAMS["people"].search(stream) is not None
    found = [
        person
        for part in objects
        for person in _people_in(part, is_people=is_people)
        if email_paths is None
        or not email_paths.isdisjoint(p.path for p in person.emails)
    ]
    found.sort(
        key=lambda p: (not p.emails, p.is_guess, p.rank[0], not p.names, p.rank[1])
    )
    has_customer = email_paths is None and any(p.rank < _rank("") for p in found)
    people = [
        person
        for person in found
        if (person is found[0] and not has_customer)
        or (person.emails and person.rank < _rank("user"))
    ]
    # The template of a mapping's own address may have another order.
    return people if email_paths is None or len(people) == 1 else []


def _contact(people: Sequence[_Person]) -> dict[str, Origin]:
    """Return the templates of the contact's fields, all of the same person."""
    found = {}
    emails = [(place, "known") for person in people for place in person.emails]
    if emails:
        found["contact.email"] = _origin("contact.email", _either(emails), emails)
    for field in ("contact.first_name", "contact.last_name"):
        text, places = _by_person(people, [p.names.get(field, []) for p in people])
        if places:
            found[field] = _origin(field, text, places)
    return found


def _by_person(
    people: Sequence[_Person], choices: Sequence[_Places]
) -> tuple[str, _Places]:
    """Return a template of the first person with an address, and its places."""
    text = "none"
    places: _Places = []
    for person, own in reversed([*zip(people, choices, strict=True)]):
        its = _either(own, is_alone=len(people) == 1) or "none"
        if person is not people[-1] and not its == text == "none":
            known = " or ".join(f"{_place(place)} | known" for place in person.emails)
            its = f"{its} if {known} else {text}"
        text, places = its, own + places
    return text, places


def _people_in(part: _Object, *, is_people: bool) -> Iterator[_Person]:
    """Yield the people in an object.

    A record may have several: `customer_email`, `user_email`. A name without a role
    belongs to the only person with an address.
    """
    if part.role:
        if part.owner == "person":
            its = _people_names(part, None, "name")
            places = part.places("contact.email")
            yield _Person(places, its, _rank(part.role), part.is_guess)
        return
    present = set(map(_role, part.columns))
    roles = [role for role in ("", *_FLAT_ROLES) if role in present]
    emails = {r: there for r in roles if (there := part.places("contact.email", r))}
    names = {r: found for r in roles if (found := _people_names(part, r))}
    if not names and is_people and (found := _people_names(part, "", "name")):
        names[""] = found
    only = next(iter(names)) if len(names) == 1 else ""
    for role in dict.fromkeys([*emails, *names]):
        own = names.get(role, {})
        if not own and (len(emails) == 1 if role else only not in emails):
            own = names.get("" if role else only, {})
        yield _Person(emails.get(role, []), own, _rank(role))


def _people_names(part: _Object, role: str | None, *full_names: str) -> _Found:
    """Return the places of first and last name, or of a column with a full name."""
    full = part.places("contact.name", role)
    found = {
        field: [(place, "person_name") for place in part.places(field, role)]
        for field in ("contact.first_name", "contact.last_name")
    }
    if not full:
        full = [place for name in full_names for place in part.columns.get(name, ())]
    for field, places in found.items():
        places += [(place, field.removeprefix("contact.")) for place in full]
    return {field: places for field, places in found.items() if places}


def _account(objects: Iterable[_Object]) -> _Found:
    """Return the places of the company's domain and name, with the filter of each."""
    choices: list[tuple[tuple[bool, bool], _Found]] = []
    for part in objects:
        if part.role and part.owner != "company":
            continue
        own = ["name"] if part.owner == "company" else []
        domains = part.places("account.domain")
        names = part.places("account.name", None, *own)
        if "accountcountry" in part.columns:  # Stripe's invoices name your own account
            names = [p for p in names if _simple(p.path[-1]) != "accountname"]
        found = {
            "account.domain": [(place, "company_domain") for place in domains],
            "account.name": [(place, "company_name") for place in names],
        }
        if domains or names:
            order = (not domains, part.is_guess)
            choices.append((order, {field: p for field, p in found.items() if p}))
    return min(choices, key=itemgetter(0), default=((), {}))[1]


@lru_cache(maxsize=65536)  # a SCHEMA may come again with one more column
def _simple(name: str) -> str:
    """Return a column's simple name without a prefix."""
    return simple_name(_PREFIX.sub("", name))


#: Filters that a single place does not need, since the field is cleaned anyway.
_FOR_SEVERAL = frozenset({"known", "person_name", "company_name"})


def _either(places: _Places, *, is_alone: bool = True) -> str:
    is_short = is_alone and len(places) == 1
    return " or ".join(
        _place(place)
        if is_short and name in _FOR_SEVERAL
        else f"{_place(place)} | {name}"
        for place, name in places
    )


def _place(place: Place) -> str:
    return path_text(place.path) + (" | primary" if place.is_list else "")


def _origin(field: str, text: str, places: _Places) -> Origin:
    shown = dict.fromkeys(".".join(place.path) for place, _ in places)
    kind = NAMES.fields[field].kind
    why = f"named like {kind}: " + ", then ".join(f"`{name}`" for name in shown)
    return Origin(f"{{{{ {text} }}}}", why)
