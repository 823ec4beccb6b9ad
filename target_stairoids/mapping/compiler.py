"""The compiler: one item of the setting `signals`, and a stream, become a signal map.

What the item leaves out is inferred. Mistakes are found here, before the first record.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from stairoids_common.config_errors import suggestion
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping import selection
from target_stairoids.mapping.compiled import CompiledMapping, Origin
from target_stairoids.mapping.expressions.errors import TemplateError
from target_stairoids.mapping.expressions.template import (
    compile_condition,
    compile_template,
    constant,
)
from target_stairoids.mapping.inference import guesses_for, spelling, touches_in
from target_stairoids.mapping.schema import inner_properties, may_be_scalar, types_of
from target_stairoids.mapping.values import (
    domain_from,
    email_from,
    text_from,
    time_from,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping

    from msgspec import UnsetType

    from target_stairoids.mapping.expressions.template import Path, Template
    from target_stairoids.mapping.item import (
        AccountTemplates,
        ContactTemplates,
        MappingItem,
    )
    from target_stairoids.mapping.schema import StreamSchema
    from target_stairoids.mapping.selection import Reader, Selection

#: Why, where nothing but the settings says it.
DEFAULT_SOURCE = "no mapping names another"
_GROUPS: Mapping[str, Mapping[str, Callable[[Any], str | None]]] = {
    "account": {"domain": domain_from, "name": text_from},
    "contact": {
        "email": email_from,
        "first_name": text_from,
        "last_name": text_from,
    },
}


class Compiler:
    """Compiles one item for one stream.

    Args:
        item: One mapping of the setting `signals`; an empty one is inferred whole.
        default_source: The `source` of signals whose mapping names none.
    """

    def __init__(
        self, schema: StreamSchema, item: MappingItem, default_source: str
    ) -> None:
        self._shape = schema
        self._item = item
        self._default_source = default_source
        self._guesses = guesses_for(schema)
        self._origins: dict[str, Origin] = {}
        self._paths: set[Path] = set()
        self._said: set[str] = set()  # columns read for more than `occurred_at`
        self._reads_all = False
        self._inferred: set[Path] = set()
        self._computed_names: set[str] = set()

    def compile(self) -> CompiledMapping:
        """Return the signal map.

        Raises:
            ConfigError: The mapping is wrong; the text names stream, key and remedy.
        """
        item, schema = self._item, self._shape
        signal_type = schema.name if item.type is UNSET else item.type
        key = item.key or schema.key_properties
        self._check_key(key)
        type_ = self._named("type", signal_type, "the stream's name")
        source = self._named(
            "source", item.source or self._default_source, DEFAULT_SOURCE
        )
        account, contact = self._group("account"), self._group("contact")
        occurred_at = self._field("occurred_at", time_from, item)
        properties = self._properties()
        when = self._when()
        ignored = frozenset(self._ignored())
        return CompiledMapping(
            name=item.name or signal_type or schema.name,
            mapping_digest=self._mapping_digest(),
            key=key,
            send=item.send,
            ignore_changes=ignored,
            type=type_,
            source=source or constant(None),
            account=account,
            contact=contact,
            occurred_at=occurred_at,
            properties=properties,
            when=when,
            paths=frozenset(self._paths - self._inferred),
            origins=self._origins,
            compiled_digest=self._compiled_digest(),
            ignored_columns=self._ignored_columns(ignored),
        )

    def _ignored(self) -> Collection[str]:
        """Return the properties whose change alone is no news."""
        given = self._item.ignore_changes
        if given is not None:
            self._check_fields("ignore_changes", set(given) - self._computed_names)
            return given
        if self._item.send != "on_change":
            return ()
        properties = self._origins.get("properties")
        said = json.loads(properties.template) if properties else ()
        bookmark = self._shape.bookmark
        found = [n for n in touches_in(self._shape) if n in said and n != bookmark]
        if found:
            self._origins["ignore_changes"] = Origin(
                json.dumps(found, ensure_ascii=False),
                "named like the time of a row's change",
            )
        return found

    def _mapping_digest(self) -> bytes:
        return _digest([msgspec.to_builtins(self._item), self._default_source])

    def _compiled_digest(self) -> bytes:
        told = {name: origin.template for name, origin in self._origins.items()}
        return _digest([msgspec.to_builtins(self._item), self._default_source, told])

    def _ignored_columns(self, ignored: frozenset[str]) -> frozenset[str] | None:
        """Return the columns that no content is made of."""
        reads_hidden = any(name[:5] == "_sdc_" for name in self._said)
        if self._item.send != "on_change" or reads_hidden:
            return None
        bookmark = {self._shape.bookmark} if self._shape.bookmark else set()
        return frozenset() if self._reads_all else (ignored | bookmark) - self._said

    # Fields

    def _named(self, field: str, text: str | None, default_why: str) -> Reader | None:
        """Compile `type` or `source`."""
        if text is None:
            return None
        template = self._template(field, text)
        why = "mapping" if getattr(self._item, field) else default_why
        self._origins[field] = Origin(text, why)
        if not template.paths:
            return constant(text_from(template.read({})))
        return template.through(text_from)

    def _group(self, group: str) -> dict[str, Reader]:
        """Compile `account` or `contact`."""
        given = getattr(self._item, group)
        if given is None:
            return {}
        readers = {
            name: self._field(f"{group}.{name}", normalise, given)
            for name, normalise in _GROUPS[group].items()
        }
        return {name: read for name, read in readers.items() if read is not None}

    def _field(
        self,
        field: str,
        normalise: Callable[[Any], str | None],
        given: MappingItem | AccountTemplates | ContactTemplates | UnsetType,
    ) -> Reader | None:
        """Compile one field: what the mapping says, else what can be inferred."""
        name = field.rpartition(".")[2]
        text = getattr(given, name, UNSET)
        if text is not UNSET:
            why = "mapping"
        elif field in self._guesses:
            text, why = self._guesses[field].template, self._guesses[field].why
        else:
            return None
        if text is None:
            return None
        before = set(self._paths)
        template = self._template(field, text)
        if why != "mapping":
            self._inferred |= self._paths - before
        self._origins[field] = Origin(text, why)
        return template.through(normalise)

    def _when(self) -> Reader | None:
        text = self._item.when
        if text is None:
            return None
        template = self._compiled("when", text, compile_condition)
        self._origins["when"] = Origin(text, "mapping")
        return template.read

    def _template(self, field: str, text: str) -> Template:
        return self._compiled(field, text, compile_template)

    def _compiled(
        self, field: str, text: str, compile_text: Callable[[str, str], Template]
    ) -> Template:
        try:
            template = compile_text(text, field)
        except TemplateError as error:
            msg = f"{self._where(field)}: {error}"
            raise ConfigError(msg) from None
        for path in template.paths:
            self._check_path(path, field)
        self._paths |= template.paths
        if field != "occurred_at":
            self._said |= {str(path[0]) for path in template.paths}
            self._reads_all |= "record" in text
        return template

    # Properties

    def _properties(self) -> Selection:
        """Compile `properties`: `"*"`, a list, a mapping or nothing."""
        given = self._item.properties
        if given is UNSET:
            given = "*"
        skip = self._item.skip
        self._check_fields("skip", skip)
        if given is None:
            return selection.nothing
        used = {str(path[0]) for path in self._paths if len(path) == 1}
        entries = [given] if isinstance(given, str | dict) else given
        computed: dict[str, Reader] = {}
        for entry in entries:
            if isinstance(entry, dict):
                computed |= self._computed(entry)
        fields = [e for e in entries if isinstance(e, str) and e != "*"]
        self._check_fields("properties", fields)
        fields = [name for name in fields if name not in skip]
        computed = {name: read for name, read in computed.items() if name not in skip}
        hidden = frozenset({*used, *skip})
        takes_all = "*" in entries
        if not fields and not computed:
            self._check_selects(hidden, takes_all=takes_all)
        self._origins["properties"] = self._told(given, hidden, takes_all=takes_all)
        if takes_all and not fields and not computed:
            return selection.all_but(hidden)
        these = selection.these(fields, computed)
        return selection.all_but(hidden, these) if takes_all else these

    def _computed(self, entry: Mapping[str, Any]) -> dict[str, Reader]:
        self._computed_names.update(entry)
        return {
            name: self._template(f"properties.{name}", value).read
            if isinstance(value, str)
            else constant(value)
            for name, value in entry.items()
        }

    def _told(
        self, given: object, hidden: frozenset[str], *, takes_all: bool
    ) -> Origin:
        """Say which properties are taken, in the words of a mapping."""
        why = "mapping" if self._item.properties is not UNSET else "all other scalars"
        known = self._shape.properties
        if not takes_all or not known:
            return Origin(json.dumps(given), why)
        names = [
            name
            for name, schema in known.items()
            if name not in hidden
            and _is_property(name, schema)
            and not {"object", "array"} & types_of(schema)
        ]
        return Origin(json.dumps(names, ensure_ascii=False), why)

    def _check_selects(self, hidden: frozenset[str], *, takes_all: bool) -> None:
        """Refuse a selection that can select nothing: `null` says that better."""
        known = self._shape.properties
        # What one of many streams lacks is no mistake.
        is_wild = re.search(r"[*?\[]", self._item.stream) is not None
        if takes_all and (
            self._item.properties is UNSET
            or is_wild
            or self._shape.is_open
            or any(n not in hidden and _is_property(n, s) for n, s in known.items())
        ):
            return
        msg = (
            f"{self._where('properties')} selects nothing. Name the fields that are to "
            "be sent, or write `properties: null` to send none."
        )
        raise ConfigError(msg)

    # Checks

    def _check_fields(self, field: str, names: Iterable[str]) -> None:
        for name in names:
            self._check_path((name,), field)

    def _check_key(self, key: Iterable[str]) -> None:
        for name in key:
            path = (name,) if name in self._shape.properties else name.split(".")
            self._check_path(tuple(path), "key")

    def _check_path(self, path: Path, field: str) -> None:
        """Refuse a path that the SCHEMA excludes."""
        schema, known = self._shape, self._shape.properties
        name = str(path[0])
        if not schema.is_open and name not in known:
            hint = _nested_hint(name, known) or suggestion(name, known)
            msg = (
                f"{self._where(field)}: `{name}` is not a property of "
                f"`{schema.name}`{hint}"
            )
            raise ConfigError(msg)
        inner: Any = known.get(name)
        for part in path[1:]:
            fields = inner_properties(inner) if inner is not None else None
            if not fields or inner.get("additionalProperties") is not False:
                return
            if part not in fields:
                msg = (
                    f"{self._where(field)}: `{part}` is not a property of "
                    f"`{name}`{suggestion(str(part), fields)}"
                )
                raise ConfigError(msg)
            inner = fields[str(part)]

    def _where(self, field: str) -> str:
        return f"Stream `{self._shape.name}`: `{field}` of its mapping"


def _digest(value: object) -> bytes:
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).digest()


def _nested_hint(name: str, known: Container[str]) -> str:
    """Say how a field inside an object is taken, if that is what a name looks like."""
    head, dot, tail = name.partition(".")
    if not dot or head not in known:
        return ""
    path = spelling((head, *tail.split(".")))
    return f"; for a field inside an object write `{tail}: '{{{{ {path} }}}}'`"


def _is_property(name: str, schema: object) -> bool:
    return may_be_scalar(schema) and name[:5] != "_sdc_"
