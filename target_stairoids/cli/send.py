"""`stairoids-signals send`: send one signal, or a few, as a run does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TextIO

import click
import msgspec

from stairoids_common.cli import TEXT_FILE, format_option, print_table
from stairoids_common.config_errors import WrongConfigError, json_of, json_problem
from stairoids_common.error_ids import WrongUsageError
from target_stairoids.cli import options
from target_stairoids.dedup.outcome import Outcome
from target_stairoids.dedup.record import json_value, value_at
from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.people_and_companies import domain_from, email_from
from target_stairoids.mapping.signals_setting import BY_HAND, MappingItem
from target_stairoids.mapping.values import is_filled

_OBJECTS = {
    "account": ("domain", "name"),
    "contact": ("email", "first_name", "last_name"),
}


@click.command()
@click.argument("messages", type=TEXT_FILE, required=False)
@click.option("--key", help="Send the records with this key: 42, id=42, '[\"eu\",42]'.")
@click.option("--limit", type=click.IntRange(min=1), help="Send the first so many.")
@click.option("--stream", help="Only records of this stream.")
@click.option("--json", "text", help="Send this signal, as the API takes it.")
@format_option()
@options.config_option()
def send(
    config_inputs: Sequence[str],
    messages: TextIO | None,
    output_format: str,
    **chosen: Any,
) -> None:
    """Send a few records, or one signal, and print the ids.

    MESSAGES is a file with the output of a tap. This is a run like any other, with the
    ledger, the checks and a summary on stderr. A record that was sent before is a
    duplicate. The command emits no STATE, and the next run reads the stream as before.
    The exit code is 1 if the command leaves a dead letter.

    \b
    Examples:
      stairoids-signals send messages.jsonl --key 42 --config config.json
      stairoids-signals send messages.jsonl --limit 1 --config config.json
      stairoids-signals send --json '{"type":"trial","source":"crm","contact":{"email":"ann@example.com"}}' --config config.json
    """  # noqa: E501 - an example is one line, ready to be copied
    from target_stairoids.dry_run import runner

    text = chosen.pop("text")
    given = [text, *(chosen[name] for name in ("key", "limit"))]
    if sum(value is not None for value in given) != 1 or (messages is None) == (
        text is None
    ):
        raise WrongUsageError(
            "Give MESSAGES with either --key or --limit, or give --json."
        )
    overrides: dict[str, Any] = {}
    if messages is None:
        lines, overrides["signals"] = _of_json(text)
        _check(config_inputs, lines, overrides)
    else:
        lines = list(_chosen(messages, config_inputs, **chosen))
    options.log_the_run()
    report, accepted, error = runner.send(config_inputs, lines, overrides)
    names = ("signal_id", "account_id", "contact_id")
    rows = [[getattr(row, name) for name in names] for row in accepted]
    if output_format == "json":
        for row in rows:
            click.echo(json.dumps(dict(zip(names, row, strict=True))))
    elif rows:
        print_table(names, rows)
    if error is not None:
        raise error
    if report.dead_letters:
        raise click.exceptions.Exit(1)


def _chosen(
    messages: Iterable[str],
    config_inputs: Sequence[str],
    *,
    key: str | None,
    limit: int | None,
    stream: str | None,
) -> Iterator[str]:
    """Yield the lines of the chosen records, each after the SCHEMA of its stream."""
    from target_stairoids.input import message_from
    from target_stairoids.mapping.config import items_of
    from target_stairoids.mapping.schema import check_message
    from target_stairoids.target import settings_from

    items = settings_from(config_inputs).signals
    schemas: dict[str, tuple[str, list[Sequence[str]]]] = {}
    begun: dict[str, str] = {}
    count = 0
    for number, line in enumerate(messages, start=1):
        if line.isspace():
            continue
        message = message_from(line, number)
        name, kind = str(message.get("stream")), message["type"]
        if kind == "SCHEMA":
            check_message({"stream": None, "schema": None, **message})
            of_items = (item.key for item in items_of(name, items))
            keys = [message.get("key_properties") or (), *of_items]
            schemas[name] = line, list(filter(None, keys))
        if kind != "RECORD" or stream not in {None, name} or name not in schemas:
            continue
        schema, keys = schemas[name]
        if key is not None and not _has_key(message.get("record"), keys, key):
            continue
        if key is not None and begun and name not in begun:
            first = next(iter(begun))
            raise ConfigError(
                f"The streams `{first}` and `{name}` both have this key. Add --stream."
            )
        if begun.get(name) != schema:
            begun[name] = schema
            yield schema
        yield line
        count += 1
        if count == limit:
            return
    if not count:
        raise ConfigError(
            "MESSAGES has no such record. `stairoids-signals explain MESSAGES` lists "
            "the records by their keys."
        )


def _has_key(record: object, keys: list[Sequence[str]], wanted: str) -> bool:
    """Return whether a record has these values in the columns of one of its keys."""
    values: list[object] = [wanted]  # several are a JSON array
    if wanted.startswith("["):
        try:
            values = json_value(wanted)  # with all digits of its numbers
        except ValueError:
            raise ConfigError("--key is not a JSON array.") from None
    texts = [str(value) for value in values]
    if not isinstance(record, dict):
        return False
    for names in keys:
        key = {name: value_at(record, name) for name in names}
        if list(map(str, key.values())) == texts or options.key_text(key) == wanted:
            return True
    return False


def _of_json(text: str) -> tuple[list[str], tuple[Any, ...]]:
    """Return the messages and the mapping of a signal that is given as JSON."""
    try:
        body = json_of(text)
        json.dumps(body, ensure_ascii=False).encode()  # not half a surrogate pair
        unknown = set(body) - {"type", "source", "occurred_at", "properties", *_OBJECTS}
        for name, fields in _OBJECTS.items():
            unknown |= {f"{name}.{f}" for f in set(body.get(name) or {}) - set(fields)}
        properties = dict(sorted((body.get("properties") or {}).items()))
        _clean(body)
    except (json.JSONDecodeError, WrongConfigError) as error:
        raise ConfigError(f"--json{json_problem(error)}.") from None
    except (AttributeError, TypeError, ValueError):
        raise ConfigError("--json is not a signal as a JSON object.") from None
    if unknown:
        raise ConfigError(f"--json has the unknown field `{min(unknown)}`.")
    for name in ("type", "source"):
        if not isinstance(text := body.get(name), str) or not text.strip():
            raise ConfigError(f"--json lacks the text `{name}`.")
        if "{{" in text:
            raise ConfigError(f"--json has a template as `{name}`. Write a text.")
    columns = {f"property_{n}": value for n, value in enumerate(properties.values())}
    templates = [f"{{{{ {column} }}}}" for column in columns]
    item: dict[str, Any] = {
        "stream": BY_HAND,
        "type": body["type"],
        "source": body["source"],
        "occurred_at": "{{ occurred_at }}",
        "properties": dict(zip(properties, templates, strict=True)) or None,
        "when": None,
    }
    record: dict[str, Any] = {}
    for name, fields in _OBJECTS.items():
        item[name] = {field: f"{{{{ {name}.{field} }}}}" for field in fields}
        record[name] = dict.fromkeys(fields) | (body.get(name) or {})
    record |= {"occurred_at": body.get("occurred_at"), **columns}
    schema: dict[str, Any] = {"properties": {name: {} for name in record}}
    messages: list[dict[str, Any]] = [
        {"type": "SCHEMA", "stream": BY_HAND, "schema": schema, "key_properties": []},
        {"type": "RECORD", "stream": BY_HAND, "record": record},
    ]
    return [json.dumps(m) for m in messages], (msgspec.convert(item, MappingItem),)


def _clean(body: dict[str, Any]) -> None:
    """Clean address and domain, so that each spelling is the same signal."""
    for part, field, clean in (
        ("contact", "email", email_from),
        ("account", "domain", domain_from),
    ):
        if given := (body.get(part) or {}).get(field):
            body[part] = {**body[part], field: clean(given) or given}


def _check(
    config_inputs: Sequence[str], lines: list[str], overrides: dict[str, Any]
) -> None:
    """Refuse a signal that would be invalid, or be sent without one of its fields."""
    from target_stairoids.dry_run.runner import run_dry

    def refuse(observation: Any) -> None:  # noqa: ANN401 - a lazy import
        if observation.outcome is Outcome.INVALID:
            raise ConfigError(f"--json breaks a rule: {observation.reason}.")
        sent = json.loads(observation.request or "null")
        for name, fields in _OBJECTS.items() if sent else ():
            given = observation.record[name]
            for field in fields:
                if is_filled(given[field]) and field not in sent.get(name, {}):
                    problem = f"{name}.{field}: would be left out"
                    raise ConfigError(f"--json breaks a rule: {problem}.")

    run_dry(config_inputs, lines, refuse, **overrides)
