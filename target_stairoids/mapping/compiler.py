"""Compile one item of the setting `signals`, and find the mistakes in it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from stairoids_common.config_errors import suggestion
from target_stairoids.exceptions import ConfigError, InvalidSignalError
from target_stairoids.mapping import names
from target_stairoids.mapping import people_and_companies as people
from target_stairoids.mapping.expressions.paths import Path
from target_stairoids.mapping.expressions.template import (
    Fields,
    Reader,
    Template,
    compile_condition,
    compile_template,
    constant,
    paths_in,
)
from target_stairoids.mapping.inference import (
    consent_filters,
    inferred_templates,
    update_time_columns,
)
from target_stairoids.mapping.mistakes import (
    checked_template,
    literal,
    mistake_in,
    unknown_path,
    where,
)
from target_stairoids.mapping.privacy import HiddenColumns, is_yes, privacy_warning
from target_stairoids.mapping.schema import (
    DELETED_AT,
    DELETED_COLUMNS,
    ColumnSet,
    StreamSchema,
    is_loaders,
    may_be_scalar,
    types_of,
)
from target_stairoids.mapping.signal import (
    ColumnRoles,
    CompiledMapping,
    Origin,
    Selection,
    normalised,
    reader_of,
    selection,
)
from target_stairoids.mapping.signals_setting import MappingItem
from target_stairoids.mapping.times import (
    UNREADABLE,
    event_time_from,
    likely_event_time_from,
)
from target_stairoids.mapping.values import is_filled, text_from

Normalise = Callable[[Any], str | None]

_DEFAULT_SOURCE = "the setting `source`, else the extractor's name or `singer`"
_MAPPING = "mapping"
_NESTED = {"object", "array"}  # types of JSON Schema
_GROUPS: Mapping[str, Mapping[str, Normalise]] = {
    "account": {"domain": people.domain_from, "name": names.company_name_from},
    "contact": {
        "email": people.email_from,
        "first_name": names.person_name_from,
        "last_name": names.person_name_from,
    },
}


class Compiler:
    """Compiles one item for one stream, with a source for mappings that name none."""

    def __init__(
        self, schema: StreamSchema, item: MappingItem, default_source: str
    ) -> None:
        self._schema = schema
        self._email_paths = None if item.email is UNSET else paths_in(item.email)
        left_out = ("type", "account", "contact", "occurred_at", "properties")
        nothing = dict.fromkeys(left_out if item.suppress else ())
        self._item = msgspec.structs.replace(item, **nothing)
        self._inferred = {
            "type": Origin(literal(schema.name), "the stream's name"),
            "source": Origin(literal(default_source), _DEFAULT_SOURCE),
            **inferred_templates(schema, self._email_paths),
        }
        self._origins: dict[str, Origin] = {}
        self._paths: set[Path] = set()
        self._mapped_paths: set[Path] = set()  # without those of inferred templates
        self._property_names: set[str] = set()
        self._hidden = HiddenColumns(())
        self._computed_names: set[str] = set()
        self._content_columns: set[str] = set()  # read for more than `occurred_at`
        self._reads_record = False
        self._takes_all = False
        self._named_columns: set[str] = set()
        self._time_paths: set[str] = set()
        self._time_columns: frozenset[str] = frozenset()
        self._warnings: tuple[str, ...] = ()

    def compile(self) -> CompiledMapping:
        """Return the mapping; `ConfigError` names stream, field and remedy."""
        item, schema = self._item, self._schema
        key = item.key or schema.key_properties
        for name in item.key:
            path = (name,) if name in schema.properties else tuple(name.split("."))
            self._check_path(path, "key", must_be_listed=True)
        type_ = self._field("type", text_from, item.type)
        source = self._field("source", text_from, item.source or UNSET)
        account, contact = self._group("account"), self._group("contact")
        has_unread_time, occurred_at = self._occurred_at()
        finds_consent = item.when is UNSET and not item.suppress
        properties, when = self._properties(), self._when()
        excludes = self._excludes() if finds_consent else {}
        ignore_changes = frozenset(self._ignore_changes())
        columns = self._column_roles(key, ignore_changes)
        suppress = self._suppress() if item.suppress else None
        deleted = DELETED_COLUMNS if item.suppress else DELETED_AT
        is_known = "domain" in account or "email" in contact or item.is_by_name
        return CompiledMapping(
            name=item.mapping_name(schema.name),
            mapping_digest=_digest([item, self._inferred["source"].template]),
            key=key,
            send=item.send,
            bulk_changes=item.bulk_changes,
            ignore_changes=ignore_changes,
            type=type_ or _nothing,
            source=source or _nothing,
            account=account,
            contact=contact,
            occurred_at=occurred_at,
            properties=properties,
            when=when,
            excludes=excludes,
            listed=frozenset(schema.properties) if finds_consent else None,
            hidden=self._hidden,
            paths=frozenset(self._mapped_paths),
            origins=self._origins,
            has_own_key=bool(item.key),
            columns=columns,
            is_by_name=item.is_by_name,
            is_left_out=suppress is None and (type_ is None or not is_known),
            suppress=suppress,
            deleted_columns=tuple(n for n in deleted if (n,) not in self._mapped_paths),
            has_unread_time=has_unread_time,
            time_columns=self._time_columns,
            warnings=self._warnings + privacy_warning(schema.name, self._hidden),
        )

    def _suppress(self) -> Reader:
        """Compile the template of an item that suppresses people and sends nothing."""
        text = str(self._item.suppress)
        template = self._template("suppress", text)
        if not template.paths:
            raise ConfigError(
                f"{self._where('suppress')} reads no column. Write for example "
                '`suppress: "{{ email }}"`.'
            )
        del self._origins["source"]
        self._origins["suppress"] = Origin(text, _MAPPING)
        return normalised(template.read, people.entry_from)

    # Fields

    def _group(self, group: str) -> dict[str, Reader]:
        given = getattr(self._item, group)
        if given is None:
            return {}
        readers = {
            name: self._field(
                f"{group}.{name}",
                normalise,
                UNSET if given is UNSET else getattr(given, name),
            )
            for name, normalise in _GROUPS[group].items()
        }
        return {name: read for name, read in readers.items() if read is not None}

    def _field(
        self, field: str, normalise: Normalise, text: str | UnsetType | None
    ) -> Reader | None:
        """Compile one field from the mapping's template, else the inferred one."""
        origin = self._inferred.get(field) if text is UNSET else None
        origin = Origin(text, _MAPPING) if isinstance(text, str) else origin
        if origin is None:
            return None
        template = self._template(field, origin.template, is_inferred=text is UNSET)
        self._origins[field] = origin
        if normalise is text_from and "{" not in origin.template:
            return constant(text_from(template.read({})))
        return normalised(template.read, normalise)

    def _occurred_at(self) -> tuple[Callable[[Fields], bool] | None, Reader]:
        """Return whether a record has an unreadable time, and the reader of the time.

        Such a record is invalid. A time that is inferred is left out instead.
        """
        is_inferred = self._item.occurred_at is UNSET
        normalise = likely_event_time_from if is_inferred else event_time_from
        read = self._field("occurred_at", normalise, self._item.occurred_at)
        if read is None:
            return None, _nothing
        text = self._origins["occurred_at"].template
        read_all = compile_template(text, "occurred_at", is_strict=True).read

        def has_unread(record: Fields) -> bool:
            try:
                return is_filled(read_all(record))
            except InvalidSignalError:
                return True

        def read_strictly(record: Fields) -> object:
            time = read(record)
            if time is None and has_unread(record):
                raise InvalidSignalError(UNREADABLE)
            return time

        return has_unread, read if is_inferred else read_strictly

    def _when(self) -> Reader | None:
        text = self._item.when
        if text is None or text is UNSET:
            return None
        self._origins["when"] = Origin(text, _MAPPING)
        return normalised(self._template("when", text, compile_condition).read, is_yes)

    def _excludes(self) -> dict[str, Reader]:
        """Compile the inferred condition, one reader for each of its columns."""
        found = consent_filters(self._schema, self._email_paths)
        if found:
            text = f"not ({' or '.join(found)})"
            self._origins["when"] = Origin(text, "columns of deletion and consent")
        return {
            text: self._template("when", f"{{{{ {text} }}}}", is_inferred=True).read
            for text in found
        }

    def _template(
        self,
        field: str,
        text: str,
        compile_text: Callable[[str, str], Template] = compile_template,
        *,
        is_inferred: bool = False,
    ) -> Template:
        """Compile a template and note the paths that it reads."""
        template = checked_template(compile_text, text, field, self._schema.name)
        if not is_inferred and field != "when":
            mistake = mistake_in(text, field, self._schema.properties)
            if mistake is not None:
                raise ConfigError(f"{self._where(field)}: {mistake}")
        for path in template.required:
            self._check_path(path, field, text)
        self._paths |= template.paths
        if not is_inferred:
            self._mapped_paths |= template.paths
        if field == "occurred_at":
            self._time_paths = {str(p[0]) for p in template.paths if len(p) == 1}
        else:
            self._content_columns |= {str(path[0]) for path in template.paths}
            self._reads_record |= template.reads_record
        return template

    # Properties

    def _properties(self) -> Selection:
        """Compile `properties`: `"*"`, a list, an object or null."""
        given, skip = self._item.properties, self._item.skip
        self._check_columns("skip", skip)
        if given is None:
            return lambda _record: {}
        used = {str(path[0]) for path in self._paths if len(path) == 1}
        given = "*" if given is UNSET else given
        entries = (given,) if isinstance(given, str | dict) else given
        hidden = self._hidden = HiddenColumns({*used, *skip})
        computed = {
            name: reader_of(value, name, self._template, hidden)
            for entry in entries
            if isinstance(entry, dict)
            for name, value in entry.items()
        }
        self._computed_names = set(computed)
        columns = [e for e in entries if isinstance(e, str) and e != "*"]
        hidden |= {n: False for n in (*columns, *computed) if n not in hidden}
        self._check_columns("properties", columns)
        columns = [name for name in columns if name not in skip]
        computed = {name: read for name, read in computed.items() if name not in skip}
        self._takes_all = takes_all = "*" in entries
        self._named_columns = set(columns)
        self._mapped_paths |= {(name,) for name in columns}
        if takes_all and self._item.occurred_at is UNSET:
            self._time_columns = frozenset(self._time_paths) - set(skip)
        if not columns and not computed:
            self._check_selects(hidden, takes_all=takes_all)
        is_mapped = self._item.properties is not UNSET
        why = _MAPPING if is_mapped else "all other scalars"
        shown: Collection[object] = given
        types: dict[str, set[str]] = {}
        if takes_all and (known := self._schema.properties):
            types = {name: types_of(known[name]) for name in self._columns_but(hidden)}
            shown = [name for name, of in types.items() if not of & _NESTED]
        self._property_names = {name for name in shown if isinstance(name, str)}
        if not is_mapped and any(not of or of & _NESTED for of in types.values()):
            # A column that is named would be sent as an object or list too.
            why, shown = f"{why}: {', '.join(types)}", "*"
        self._origins["properties"] = Origin(_json(shown), why)
        return selection(hidden, columns, computed, takes_all=takes_all)

    def _columns_but(self, hidden: HiddenColumns) -> list[str]:
        return [
            name
            for name, schema in self._schema.properties.items()
            if may_be_scalar(schema) and not hidden[name]
        ]

    def _check_selects(self, hidden: HiddenColumns, *, takes_all: bool) -> None:
        """Refuse properties that select nothing in any record."""
        # A glob applies to many streams, and one of them may have no such columns.
        is_glob = re.search(r"[*?\[]", self._item.stream) is not None
        may_be_empty = self._item.properties is UNSET or is_glob or self._schema.is_open
        if not takes_all or not (may_be_empty or self._columns_but(hidden)):
            raise ConfigError(
                f"{self._where('properties')} selects nothing. Name the columns to "
                "send, or write `properties: null` to send none."
            )

    # Changes

    def _ignore_changes(self) -> Collection[str]:
        """Return the properties whose change alone sends nothing."""
        given = self._item.ignore_changes
        if given is not None:
            if not self._schema.is_open:
                known = {*self._schema.properties, *self._computed_names}
                self._warnings = tuple(
                    f"{self._where('ignore_changes')}: `{name}` is not a property of "
                    f"`{self._schema.name}`{suggestion(name, known) or '.'}"
                    for name in given
                    if name not in known and name.partition(".")[0] not in known
                )
            return given
        if self._item.send != "on_change":
            return ()
        used = self._content_columns | self._named_columns
        loaders = filter(is_loaders, self._schema.properties.keys() - used)
        found = [
            name
            for name in [*update_time_columns(self._schema), *sorted(loaders)]
            if name in self._property_names and name != self._schema.bookmark
        ]
        if found:
            why = "named like the time of a row's change"
            self._origins["ignore_changes"] = Origin(_json(found), why)
        return found

    def _column_roles(
        self, key: tuple[str, ...], ignore_changes: frozenset[str]
    ) -> ColumnRoles:
        """Return the roles of the stream's columns.

        The content is unknown if the mapping reads one of Singer's own columns, which
        have no part in a record's digests.
        """
        content, item = self._content_columns, self._item
        update_times = frozenset(update_time_columns(self._schema))
        read = {str(path[0]) for path in self._paths}
        used = frozenset(content | self._named_columns | self._computed_names)
        ignored = ignore_changes | set(filter(None, [self._schema.bookmark]))
        if item.send != "on_change":
            ignored |= update_times
        ignored = frozenset() if self._reads_record else ignored - content
        reads_sdc = any(name.startswith("_sdc_") for name in content)
        touched = (ignore_changes | update_times) - content
        stateless, bookmark = ColumnSet(frozenset(key), used), self._schema.bookmark
        roles = ColumnRoles(
            read=frozenset(read),
            named=frozenset(self._named_columns),
            takes_all=self._takes_all,
            reads_record=self._reads_record,
            hidden=self._hidden,
            loaders=ColumnSet(frozenset(), used),
            stateless=stateless,
            content=frozenset(content),
            unsent=ignored,
            ignored=ColumnSet(ignored, used),
            knows_content=item.send == "on_change" and not reads_sdc,
            has_bookmark=bookmark is not None and bookmark not in stateless,
            touched=ColumnSet(touched | (frozenset(item.skip) - read), used),
        )
        return msgspec.structs.replace(roles, ignored=roles.ignored_with(key))

    # Checks

    def _check_columns(self, field: str, names: Iterable[str]) -> None:
        for name in names:
            self._check_path((name,), field)

    def _check_path(
        self, path: Path, field: str, text: str = "", *, must_be_listed: bool = False
    ) -> None:
        listed = must_be_listed
        if problem := unknown_path(self._schema, path, text, must_be_listed=listed):
            raise ConfigError(f"{self._where(field)}: {problem}")

    def _where(self, field: str) -> str:
        return where(self._schema.name, field)


_nothing = constant(None)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _digest(value: object) -> bytes:
    return blake2b(msgspec.json.encode(value, order="sorted"), digest_size=16).digest()
