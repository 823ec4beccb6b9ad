"""The mapping: which items of the setting `signals` apply to which stream."""

from __future__ import annotations

import difflib
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from stairoids_common.config_errors import suggestion
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.compiler import Compiler
from target_stairoids.mapping.item import MappingItem

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from target_stairoids.mapping.compiled import CompiledMapping
    from target_stairoids.mapping.schema import StreamSchema

_WILD = re.compile(r"[*?\[]")
_NEAR = 0.75  # `trails` is to `trials` 0.83, `leads` to `deals` 0.6


def maps_for(
    schema: StreamSchema, items: Sequence[MappingItem], default_source: str
) -> list[CompiledMapping]:
    """Compile the mappings of one stream.

    The first item whose glob matches decides the glob, and all items with that same
    text apply; a stream that no item matches is inferred whole.

    Raises:
        ConfigError: A mapping is wrong; the message names stream, key and remedy.
    """
    glob = glob_of(schema.name, items)
    chosen = [item for item in items if item.stream == glob]
    chosen = chosen or [MappingItem(stream="*")]
    maps = [Compiler(schema, item, default_source).compile() for item in chosen]
    names = [compiled_mapping.name for compiled_mapping in maps]
    for name in names:
        if names.count(name) > 1:
            msg = (
                f"Stream `{schema.name}`: two mappings are named `{name}`; give each "
                "its own `name`, because the ledger tells them apart by it."
            )
            raise ConfigError(msg)
    return maps


def glob_of(stream: str, items: Iterable[MappingItem]) -> str | None:
    """Return the glob that decides on a stream; None if no item matches it."""
    return next((i.stream for i in items if fnmatchcase(stream, i.stream)), None)


def check_globs(items: Iterable[MappingItem]) -> None:
    """Refuse an item that no stream can reach, because an earlier one takes them all.

    Raises:
        ConfigError: It names both globs.
    """
    earlier: list[str] = []
    for item in items:
        glob = item.stream
        if glob in earlier:
            continue
        hiding = next((other for other in earlier if _hides(other, glob)), None)
        if hiding is not None:
            msg = (
                f"The mapping of stream `{glob}` in `signals` is never used: "
                f"`{hiding}` stands before it and takes all of its streams. Put the "
                "more specific one first."
            )
            raise ConfigError(msg)
        earlier.append(glob)


def _hides(glob: str, later: str) -> bool:
    """Say whether a glob matches all that a later one does, as far as can be told."""
    if not _WILD.search(later):
        return fnmatchcase(later, glob)
    # `*` in the later one is matched by `*` only; `?` and `[...]` may stand for less.
    return not re.search(r"[?\[]", glob) and fnmatchcase(later, glob)


def check_spelling(
    stream: str, items: Iterable[MappingItem], seen: Iterable[str]
) -> None:
    """Refuse to infer a stream that an item seems to mean, and to misspell.

    Args:
        stream: One that no item matches, or all is well.
        seen: The streams of this run so far: what matched one is not misspelt.

    Raises:
        ConfigError: It names the item, the stream and the remedy.
    """
    items = list(items)
    if glob_of(stream, items) is not None:
        return
    used = {glob_of(other, items) for other in seen}
    names = [i.stream for i in items if not _WILD.search(i.stream)]
    glob = next((n for n in names if n not in used and _is_near(n, stream)), None)
    if glob is not None:
        msg = (
            f"Stream `{stream}` has no mapping in `signals`, but nearly the name of "
            f"`{glob}`, which matched no stream so far: nothing of it is sent. Correct "
            f"`{glob}`, or give `{stream}` a mapping of its own (`type: null` leaves "
            "it out)."
        )
        raise ConfigError(msg)


def check_is_meant(
    stream: str, items: Iterable[MappingItem], seen: Iterable[str]
) -> None:
    """Refuse to send a stream as inferred that the items may mean by another name.

    Args:
        stream: One that no item matches, or all is well.
        seen: The streams of this run so far: where one matched, the names are right.

    Raises:
        ConfigError: It names an item, the stream and the remedy.
    """
    items = list(items)
    meant = [i.stream for i in items if i.type is not None]
    if meant and all(glob_of(name, items) is None for name in (stream, *seen)):
        msg = (
            f"Stream `{stream}` has no mapping in `signals`, and no stream so far was "
            f"the one of `{meant[0]}`: nothing of it is sent. If that is `{stream}`, "
            f"correct its name. Else say what `{stream}` is: give it a mapping of its "
            "own (`type: null` leaves it out), or end `signals` with one for `*`."
        )
        raise ConfigError(msg)


def unused_globs(items: Iterable[MappingItem], streams: Sequence[str]) -> list[str]:
    """Say which globs no stream of a run matched, each as a sentence."""
    items = list(items)
    used = {glob_of(stream, items) for stream in streams}
    silent = {item.stream for item in items if item.type is None}
    return [
        f"No stream matched the mapping of `{glob}` in `signals`"
        f"{suggestion(glob, streams) or '.'}"
        for glob in dict.fromkeys(item.stream for item in items)
        if glob not in used and glob not in silent
    ]


def _is_near(name: str, other: str) -> bool:
    """Return whether one stream's name may be a misspelling of another.

    A schema that both names begin with does not count, nor one that only one has.
    """
    parts, others = (re.split(r"[-._]", text.casefold()) for text in (name, other))
    if parts == others or parts[-1:] == others or others[-1:] == parts:
        return True
    while len(parts) > 1 and len(others) > 1 and parts[0] == others[0]:
        parts, others = parts[1:], others[1:]
    alike = difflib.SequenceMatcher(None, "-".join(parts), "-".join(others))
    return alike.ratio() >= _NEAR
