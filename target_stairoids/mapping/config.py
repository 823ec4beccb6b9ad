"""The setting `signals`: which of its items apply to which stream.

The functions raise `ConfigError` with a message that names the item and the remedy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from msgspec import UNSET

from stairoids_common.config_errors import WILDCARD, is_near, misspelt, suggestion
from stairoids_common.text import as_code
from target_stairoids.exceptions import ConfigError, MessageError
from target_stairoids.mapping.compiler import Compiler
from target_stairoids.mapping.expressions.paths import Path, path_text
from target_stairoids.mapping.inference import why_not_inferred
from target_stairoids.mapping.schema import Json, StreamSchema
from target_stairoids.mapping.signal import CompiledMapping
from target_stairoids.mapping.signals_setting import MappingItem

_FEWER = re.compile(r"[?\[]")
_SHOWN = 5  # fields in one warning
_NO_TEXT = "\0"  # the name of a column that no text of a mapping equals


def mappings_for(
    schema: StreamSchema, items: Sequence[MappingItem], default_source: str
) -> list[CompiledMapping]:
    """Compile the mappings of one stream.

    The first glob that matches the stream applies, with all its items.
    """
    chosen = items_of(schema.name, items) or [MappingItem(stream="*")]
    compiled = [Compiler(schema, item, default_source).compile() for item in chosen]
    reason = why_not_inferred(schema)
    if reason and not any(map(_names_its_stream, chosen)):
        name = schema.name
        warning = (
            f"Stream `{name}` is left out, because it {reason}. To send it, give it a "
            f"mapping of its own in `signals`, such as `{{stream: {name}}}`."
        )
        compiled = [
            m
            if m.suppress is not None
            else replace(m, is_left_out=True, not_inferred=reason, warnings=(warning,))
            for m in compiled
        ]
    _check_names(schema.name, (mapping.name for mapping in compiled))
    return compiled


def _check_names(stream: str, names: Iterable[str]) -> None:
    ((name, times),) = Counter(names).most_common(1)
    if times > 1:
        raise ConfigError(
            f"Stream `{stream}`: two mappings are named `{name}`; give each "
            "its own `name`, because the ledger tells them apart by it."
        )


def _names_its_stream(item: MappingItem) -> bool:
    """Return whether an item is about one stream, or names the fields of a person."""
    is_inferred = item.contact is UNSET and item.account is UNSET
    return not (is_inferred and item.type is not None and WILDCARD.search(item.stream))


def glob_of(stream: str, items: Iterable[MappingItem]) -> str | None:
    """Return the glob that applies to a stream; None if no item matches it."""
    return next((i.stream for i in items if fnmatchcase(stream, i.stream)), None)


def items_of(stream: str, items: Sequence[MappingItem]) -> list[MappingItem]:
    """Return the items that apply to a stream, which are those with its glob."""
    glob = glob_of(stream, items)
    return [item for item in items if item.stream == glob]


def names_for(stream: str, items: Sequence[MappingItem]) -> set[str]:
    """Return the names of the mappings that items make for a stream."""
    return {item.mapping_name(stream) for item in items_of(stream, items)}


def check_brackets(stream: str, items: Iterable[MappingItem]) -> None:
    """Refuse an item that matches a stream only if its `[` is no part of a pattern."""
    for item in items:
        escaped = item.stream.replace("[", "[[]")
        if fnmatchcase(stream, escaped) and not fnmatchcase(stream, item.stream):
            raise ConfigError(
                f"The mapping of stream `{item.stream}` in `signals` does not match "
                f"the stream `{stream}`, because `[` begins a set of characters; did "
                f"you mean `{escaped}`?"
            )


def check_globs(items: Iterable[MappingItem]) -> None:
    """Refuse an item whose streams all belong to an earlier item."""
    earlier: list[str] = []
    for item in items:
        glob = item.stream
        # Only `*` matches a `*`; `?` and `[...]` may match fewer streams.
        wide = [o for o in earlier if not (WILDCARD.search(glob) and _FEWER.search(o))]
        hiding = next((other for other in wide if fnmatchcase(glob, other)), None)
        if hiding is not None and glob not in earlier:
            raise ConfigError(
                f"The mapping of stream `{glob}` in `signals` is never used: "
                f"`{hiding}` stands before it and takes all of its streams. Put the "
                "more specific one first."
            )
        earlier.append(glob)


def check_items(items: Sequence[MappingItem]) -> None:
    """Refuse items that are wrong for every stream and its columns."""
    check_globs(items)
    for glob in dict.fromkeys(item.stream for item in items):
        _check_names(glob, (i.mapping_name(glob) for i in items if i.stream == glob))
    for item in items:
        # A SCHEMA lists the columns of a key, and may list any others.
        columns: dict[str, Json] = {n: {} for n in item.key or (_NO_TEXT,)}
        schema = StreamSchema(
            name=item.stream, properties=columns, key_properties=(), allows_more=True
        )
        Compiler(schema, item, "singer").compile()


def check_spelling(
    stream: str, items: Iterable[MappingItem], seen: Container[str]
) -> None:
    """Refuse to infer a stream if the mapping of an item nearly has its name."""
    if name := misspelt(stream, [i.stream for i in items], seen, is_near):
        raise ConfigError(
            f"Stream `{stream}` has no mapping in `signals`. `{name}` is nearly its "
            f"name and matched no stream so far, so nothing was sent. Correct "
            f"`{name}`, or give `{stream}` a mapping of its own (`type: null` leaves "
            "it out)."
        )


def check_any_match(
    stream: str, items: Sequence[MappingItem], seen: Iterable[str]
) -> None:
    """Refuse to infer a stream as long as no item has matched a stream of the run."""
    names = [i.stream for i in items if i.type is not None]
    if names and all(glob_of(name, items) is None for name in (stream, *seen)):
        raise ConfigError(
            f"Stream `{stream}` has no mapping in `signals`, and no stream so far "
            f"matched `{names[0]}`, so nothing was sent. If `{names[0]}` means "
            f"`{stream}`, correct its name. Otherwise give `{stream}` a mapping of its "
            "own (`type: null` leaves it out), or end `signals` with one for `*`."
        )


def check_keys(
    stream: str, before: Iterable[CompiledMapping], now: Iterable[CompiledMapping]
) -> None:
    """Refuse another key in one input, which would make known records new ones."""
    known = {mapping.name: mapping.key for mapping in before}
    for mapping in now:
        keys = [mapping.key, known.get(mapping.name, mapping.key)]
        if {*keys[0]} != {*keys[1]}:
            new, old = (" and ".join(map(as_code, key)) or "none" for key in keys)
            raise MessageError(
                f"The SCHEMA of stream {as_code(stream)} is wrong: its key is {new}, "
                f"and was {old} before in this input."
            )


def unused_globs(items: Iterable[MappingItem], streams: Sequence[str]) -> list[str]:
    """Return a sentence for each glob that no stream of a run matched."""
    items = list(items)
    used = {glob_of(stream, items) for stream in streams}
    left_out = {item.stream for item in items if item.type is None}
    return [
        f"No stream matched the mapping of `{glob}` in `signals`"
        f"{suggestion(glob, streams) or '.'}"
        for glob in dict.fromkeys(item.stream for item in items)
        if glob not in used and glob not in left_out
    ]


def unused_fields(stream: str, paths: Collection[Path]) -> list[str]:
    """Return a sentence about the fields of a mapping that no record had, if any."""
    fields = [f"`{text}`" for text in sorted(map(path_text, paths))]
    more = f" and {len(fields) - _SHOWN} more" if len(fields) > _SHOWN else ""
    names = ", ".join(fields[:_SHOWN])
    sentence = f"no record had {names}{more}, which its mapping uses."
    return [f"Stream `{stream}`: {sentence}"] if fields else []
