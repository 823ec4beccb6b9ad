"""Write an inferred mapping as YAML with comments, as a start for your own."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from glob import escape

from stairoids_common.text import counted, one_line
from target_stairoids.dry_run.preview import Coverage, Preview
from target_stairoids.mapping.signal import CompiledMapping

_BARE = re.compile(r"[^\W\d][\w.-]*")
_NOT_TEXTS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
_GROUPS = ("account", "contact")
_MATCHED_BY = {"contact.email": "an email address", "account.domain": "a domain"}


def as_yaml(preview: Preview) -> str:
    """Return the inferred mappings as the setting `signals`."""
    lines = ["signals:"]
    for stream, mapping, coverage in preview.mappings():
        reason = mapping.not_inferred or "has no field that names a person or company"
        if mapping.is_left_out:
            lines += _left_out(stream, reason)
        else:
            lines += _item(stream, mapping, coverage)
    return "\n".join(map(one_line, lines)) + "\n"


def _left_out(stream: str, reason: str) -> Iterator[str]:
    yield f"# {stream} {reason}."
    yield "# To use it, replace `type: null`:"
    if "`suppress`" in reason:
        yield '#   suppress: "{{ }}"  # the address or domain that gets no signal'
    else:
        yield '#   contact: {email: "{{ }}"}  # or account: {domain: "{{ }}"}'
        yield "# Inference reads objects in objects. Write a deeper path as a.b.c.d"
    yield f"- stream: {_text(escape(stream))}"
    yield "  type: null"


def _about(stream: str, coverage: Coverage) -> Iterator[str]:
    """Yield a comment about the records of a stream."""
    if coverage.records:
        shares = ", ".join(
            f"{coverage.share(field):.0%} with {words}"
            for field, words in _MATCHED_BY.items()
        )
        yield f"# {stream}: {counted(coverage.records, 'record')}, {shares}"
        if not any(coverage.filled[field] for field in _MATCHED_BY):
            yield "# Replace the paths: these fields are empty in all records."
    elif not coverage.reasons:
        yield f"# {stream}: no records, so only the names of the columns were read"


def _item(stream: str, mapping: CompiledMapping, coverage: Coverage) -> Iterator[str]:
    yield from _about(stream, coverage)
    yield f"- stream: {_text(escape(stream))}"
    origins = mapping.origins
    yield f"  type: {_text(origins['type'].template)}"
    for group in _GROUPS:
        fields = {f: o for f, o in origins.items() if f.startswith(f"{group}.")}
        if fields:
            yield f"  {group}:"
        for field, origin in fields.items():
            name = field.partition(".")[2]
            yield f"    {name}: {_text(origin.template)}  # {origin.why}"
    if time := origins.get("occurred_at"):
        yield f"  occurred_at: {_text(time.template)}  # {time.why}"
    properties = origins["properties"]
    about = f"  # {properties.why}" if properties.template == '"*"' else ""
    yield f"  properties: {_properties(properties.template)}{about}"
    if when := origins.get("when"):
        yield f"  when: {_text(when.template)}  # {when.why}"
    if ignored := origins.get("ignore_changes"):
        names = _properties(ignored.template)
        yield f"  ignore_changes: {names}  # {ignored.why}"
    # `key` may name columns of the SCHEMA only. Without it, the stream's key counts.
    listed = mapping.listed
    if mapping.key and (
        not listed or all({k, k.partition(".")[0]} & listed for k in mapping.key)
    ):
        yield f"  key: {_texts(mapping.key)}"


def _properties(listed: str) -> str:
    names = json.loads(listed)
    if not names:
        return "null"  # an empty list would be a mistake
    return _texts(names) if isinstance(names, list) else _text(names)


def _text(text: str) -> str:
    """Return a text as YAML: quoted as in JSON, unless it can only be a text."""
    if _BARE.fullmatch(text) and text.lower() not in _NOT_TEXTS:
        return text
    return json.dumps(text, ensure_ascii=False)


def _texts(texts: Iterable[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"
