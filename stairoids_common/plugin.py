"""The common part of the Singer plugins: config, command line, state and errors."""

from __future__ import annotations

import ast
import fnmatch
import json
import logging
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from io import StringIO
from types import FrameType
from typing import IO, Any, ClassVar, Protocol, TextIO, cast

import click
from singer_sdk import Stream, Tap
from singer_sdk import exceptions as sdk
from singer_sdk.helpers._classproperty import classproperty
from singer_sdk.helpers._flattening import get_flattening_options
from singer_sdk.mapper import (
    NULL_STRING,
    CustomStreamMap,
    RemoveRecordTransform,
    StreamMap,
)
from singer_sdk.plugin_base import PluginBase, _ConfigInput
from singer_sdk.singerlib import Catalog, RecordMessage
from typing_extensions import override

from stairoids_common.cli import CONTEXT_SETTINGS, checked_stdout
from stairoids_common.config import object_in, read_config, understood
from stairoids_common.config_errors import (
    Json,
    WrongConfigError,
    config_errors,
    is_misspelt_word,
    is_typo,
    misspelt,
    suggestion,
)
from stairoids_common.environment import environment_config
from stairoids_common.error_ids import fail
from stairoids_common.singer import begin, check_log_level, failed_expression, misfit

logger = logging.getLogger(__name__)

EXIT_CODES = """\b
Exit codes:
  0  all records were emitted.
  1  the config, the state or the database is wrong.
  2  the command line is wrong.
  128 + n  stopped by SIGTERM or SIGINT (number n).
"""

#: The fields of a bookmark whose stream had no record so far.
_OF_NO_RECORD = {"replication_key", "replication_key_value", "store_id"}
_OF_NO_RECORD |= {"event_types", "since", "read_through", "starting_replication_value"}
_NO_BOOKMARKS = (
    "state: it has no `bookmarks` of this tap; give the tap the `value` of its last "
    "STATE message, or `{}` to read everything again"
)
_REMEDIES = {
    "state": "put the last state back, or `{}` to read everything again",
    "catalog": "write it again with --discover",
}

#: Names that each stream map knows beside columns and functions.
_NAMES = frozenset(
    {"_", "record", "config", "self", "fake"}
    | {"__stream_name__", "__original_stream_name__"}
)
_OPTIONS = frozenset({"__alias__", "__source__", "__else__", "__key_properties__"})
_FILTER = "__filter__"


class Source(Protocol):
    """The streams of a run."""

    def stop(self) -> None:
        """End every stream after the current record."""

    def resumes(self, name: str, sequence: object, marks: Mapping[str, Any]) -> bool:
        """Return whether a stream can resume after its bookmark."""

    def marks_of(self, name: str) -> dict[str, Any]:
        """Return the facts in the state of a stream that prove its bookmark."""


class StairoidsPlugin(PluginBase):
    """A plugin that names each mistake in its config, and repeats no value.

    `summary` is the first line of the help, and `examples` are its end. `for_word` ends
    the error about a word that is no option.
    """

    package_name = "singer-stairoids"
    summary: ClassVar[str]
    examples: ClassVar[str]
    for_word: ClassVar[str]

    @classmethod
    @cache
    def full_schema(cls) -> dict[str, Any]:
        """Return the schema of the config, with the settings that the SDK adds."""
        schema = cls.config_jsonschema
        cls.append_builtin_config(schema)
        return cast("dict[str, Any]", _repaired(schema))

    @classproperty
    @override
    def _env_var_config(cls) -> dict[str, Any]:  # noqa: N805 - a property of the class
        """The config of the environment, without `.env` files, which would win."""
        return environment_config(cls.full_schema(), cls._env_var_prefix)

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.context_settings.update(CONTEXT_SETTINGS)
        command.help = cls.summary
        command.epilog = cls.examples
        return command

    @classmethod
    def problems_in(cls, config: dict[str, Any], schema: dict[str, Any]) -> list[str]:
        """Return one sentence for each mistake in a config, without its values."""
        return config_errors(config, schema)

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """Find mistakes; the messages repeat no value, because it may be a secret."""
        schema = self.full_schema()
        self._config = understood(self._config, schema)
        errors = self.problems_in(self._config, schema)
        try:
            get_flattening_options(cast("Any", self._config))  # as the SDK does later
        except sdk.ConfigValidationError as error:
            errors = [*errors, *error.errors]
        if errors and raise_errors:
            raise WrongConfigError(*errors)
        return errors

    def stream_map_items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield each stream map with the stream, or pattern of streams, it is for."""
        for name, given in self.mapper.stream_maps_dict.items():
            stream_map = given if isinstance(given, dict) else {}
            yield stream_map.get("__source__", name), stream_map

    def check_stream_map_names(self, stream: str) -> None:
        """Refuse a stream without a stream map if one nearly has its name."""
        is_left_out = self.mapper.default_mapper_type is RemoveRecordTransform
        patterns = ["*"] if is_left_out else [*dict(self.stream_map_items())]
        if name := misspelt(stream, patterns, self.mapper.stream_maps, is_typo):
            raise sdk.StreamMapConfigError(
                f"`{name}` is nearly the stream `{stream}`, and matched no stream so "
                f"far. Correct `{name}`, or give `{stream}` a stream map of its own "
                "(`{}` keeps the stream as it is, `null` leaves it out)."
            )

    def check_stream_maps_of(self, stream: str, columns: Iterable[str]) -> None:
        """Refuse the unknown functions in stream maps, and columns with a typo.

        Other unknown columns may be in a record, as most SCHEMAs allow more columns.
        """
        for pattern, given in self.stream_map_items():
            if fnmatch.fnmatch(stream, pattern):
                _check_fields(given, columns if pattern == stream else ())
                _check_names(self.mapper.stream_maps[stream], given, columns)

    def warn_of_unused_stream_maps(self) -> None:
        """Warn of stream maps that are for no stream of the run."""
        streams = self.mapper.stream_maps
        for pattern in dict(self.stream_map_items()):
            if not fnmatch.filter(streams, pattern):
                hint = suggestion(pattern, streams) or "."
                text = "No stream matched `%s` in `stream_maps`%s"
                self.logger.warning(text, pattern, hint)


def _repaired(schema: Json) -> Json:
    """Return a schema in which `anyOf` has no bare types, as those of the SDK have."""
    if isinstance(schema, list):
        return [_repaired(part) for part in schema]
    if not isinstance(schema, Mapping):
        return schema
    found = {name: _repaired(part) for name, part in schema.items()}
    if isinstance(parts := found.get("anyOf"), list):
        found["anyOf"] = [{"type": p} if isinstance(p, str) else p for p in parts]
    return found


class StairoidsStream(Stream):
    """A stream whose replication key is always its own, also if a catalog differs."""

    @override
    def apply_catalog(self, catalog: Catalog) -> None:
        replication_key = self.replication_key
        super().apply_catalog(catalog)
        self.replication_key = replication_key

    @override
    def _generate_record_messages(
        self, record: dict[str, Any]
    ) -> Generator[RecordMessage, None, None]:
        with self._map_errors():
            yield from super()._generate_record_messages(record)

    @override
    def _write_state_message(self) -> None:
        source = cast("StairoidsTap", self._tap).source
        self.stream_state.update(source.marks_of(self.name))
        super()._write_state_message()

    @override
    def _process_record(self, *args: Any, **contexts: Any) -> None:
        with self._map_errors():  # of `__filter__`
            super()._process_record(*args, **contexts)

    @contextmanager
    def _map_errors(self) -> Iterator[None]:
        """Turn the error of a stream map into one sentence without values."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 -- stream maps fail in many ways
            problem = misfit(self.name, error) or failed_expression(self.name, error)
            raise WrongConfigError(problem) from None


class StairoidsTap(StairoidsPlugin, Tap, ABC):
    """A tap whose mistakes of the user are one line each and exit code 1."""

    expected_errors: ClassVar[tuple[type[Exception], ...]]
    stopped_by: ClassVar[int | None] = None
    _at_exit: ClassVar = ExitStack()

    @property
    @abstractmethod
    def source(self) -> Source:
        """The streams of this run."""

    @override
    def load_state(self, state: dict[str, Any]) -> None:
        """Load a state, also as `meltano state get` prints it.

        A state of something else is refused, because it would count as none.
        """
        bookmarks = _bookmarks_in(state, self.streams)
        for name, stream in self.streams.items():
            key, bookmark = stream.replication_key, bookmarks.get(name, {})
            if key and _is_foreign(bookmark, key):
                problem = f"the bookmark of {name} is not a whole number of `{key}`"
                raise WrongConfigError(f"state: {problem}; {_REMEDIES['state']}")
            if "replication_key_value" not in bookmark:
                continue
            if self.source.resumes(name, bookmark["replication_key_value"], bookmark):
                bookmark["replication_key"] = key  # else the SDK reads from 0
            else:
                bookmark.clear()
        super().load_state({"bookmarks": bookmarks})

    @override
    def setup_mapper(self) -> None:
        super().setup_mapper()
        for stream, maps in self.mapper.stream_maps.items():
            self.check_stream_map_names(stream)
            self.check_stream_maps_of(stream, maps[0].raw_schema["properties"])
        self.warn_of_unused_stream_maps()

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the current record; at the second signal stop at once.

        The SDK would write a STATE, perhaps amid another message.
        """
        if self.stopped_by is not None:
            sys.exit(128 + signum)
        type(self).stopped_by = signum
        self.source.stop()

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        command.main = cls._clear_errors()(command.main)  # type: ignore[method-assign]  # options have callbacks that fail too
        return command

    @classmethod
    @contextmanager
    def _clear_errors(cls) -> Iterator[None]:
        """Turn errors that the user can fix into one line each; close the database."""
        try:
            with cls._at_exit:
                yield
        except WrongConfigError as error:
            problems = error.errors
        except (sdk.MapExpressionError, sdk.StreamMapConfigError) as error:
            problem = f"A stream: its `stream_maps` in the config are wrong. {error}"
            problems = (problem,)
        except cls.expected_errors as error:
            problems = (str(error),)
        else:
            return
        for problem in problems:
            cls.logger.error("%s", problem)
        sys.exit(1)

    @classmethod
    @override
    def invoke(cls, **kwargs: Any) -> None:
        for kind in _REMEDIES:
            if kwargs.get(kind) is not None:
                kwargs[kind] = _checked(kind, kwargs[kind])
        super().invoke(**kwargs)
        if cls.stopped_by is not None:
            logger.info("Stopped by %s", signal.Signals(cls.stopped_by).name)
            sys.exit(128 + cls.stopped_by)

    @classmethod
    @override
    def cb_config(
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> Any:
        begin(cls.name)
        found = read_config(value, cls.full_schema(), cls._env_var_prefix)
        return _ConfigInput(config=found)


def _check_fields(given: Mapping[str, Any], columns: Iterable[str]) -> None:
    """Refuse a misspelt option, and a misspelt column that is to be removed."""
    for field, text in given.items():
        if field in {*_OPTIONS, _FILTER, *columns}:
            continue
        meant, kind = _options_like(field), "option"
        if text in (None, NULL_STRING):
            meant += [c for c in columns if is_misspelt_word(field, c.lower())]
            kind = "column"
        for name in meant:
            problem = f"there is no {kind} `{field}`; did you mean `{name}`?"
            raise sdk.MapExpressionError(problem)


def _check_names(
    maps: Iterable[StreamMap], given: Mapping[str, Any], columns: Iterable[str]
) -> None:
    functions = next((m.functions for m in maps if isinstance(m, CustomStreamMap)), {})
    for field, text in given.items():
        if field in _OPTIONS or not isinstance(text, str) or text == NULL_STRING:
            continue
        nodes = [*ast.walk(ast.parse(text))]
        if any(isinstance(node, ast.Assign) for node in nodes):
            problem = f"`{field}`: `=` compares nothing; did you mean `==`?"
            raise sdk.MapExpressionError(problem)
        called = [node.func for node in nodes if isinstance(node, ast.Call)]
        names = [node for node in nodes if isinstance(node, ast.Name)]
        own = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        texts = {node.value for node in nodes if isinstance(node, ast.Constant)}
        known = {*columns, *functions, *_NAMES, *own, *texts}
        for name in names:
            if name in called and name.id not in functions:
                kind, hint = "function", suggestion(name.id, functions) or "."
            elif name.id not in known:
                kind, hint = "column", suggestion(name.id, columns)
            else:
                continue
            if hint:
                raise sdk.MapExpressionError(
                    f"`{field}`: there is no {kind} `{name.id}`{hint}"
                )


def _options_like(field: str) -> list[str]:
    """Return the options that a field such as `__FILTER__` or `__filtr__` may mean."""
    bare = field.strip(" _").lower()
    is_marked = field.startswith("__") or (field[0] == "_" and field[-1] in "_ ")
    options = (*_OPTIONS, _FILTER) if is_marked else ()
    return [name for name in options if is_misspelt_word(bare, name.strip("_"))]


def _is_foreign(bookmark: Mapping[str, Any], key: str) -> bool:
    """Return whether a bookmark is of another tap. The SDK would ignore it."""
    if bookmark.get("replication_key_value") is None:
        return not bookmark.keys() <= _OF_NO_RECORD
    return bool(bookmark.get("replication_key", key) != key)


def _bookmarks_in(state: object, streams: Collection[str]) -> dict[str, Any]:
    match state:
        case {"singer_state": inner}:
            return _bookmarks_in(inner, streams)
        case {**parts} if parts.keys() & {"completed", "partial"}:
            # Meltano's partial state is the newer one.
            inner = [parts.get(name) for name in ("completed", "partial")]
            found = [_bookmarks_in(part, streams) for part in inner if part]
            return {name: mark for part in found for name, mark in part.items()}
        case {"bookmarks": {**bookmarks}} if all(
            isinstance(bookmark, dict) for bookmark in bookmarks.values()
        ) and (not bookmarks or bookmarks.keys() & set(streams)):
            return {str(name): bookmark for name, bookmark in bookmarks.items()}
        case {**rest} if not rest:
            return {}
    raise WrongConfigError(_NO_BOOKMARKS)


def _checked(kind: str, file: IO[str]) -> IO[str]:
    """Return a state or catalog, also of stdin or a pipe, that the SDK can read."""
    name, remedy = file.name.strip("<>"), _REMEDIES[kind]
    try:
        content = object_in(cast("TextIO", file).buffer.read(), name)
    except WrongConfigError as error:
        raise WrongConfigError(f"{kind}: {error}; {remedy}") from None
    if kind == "catalog" and not _is_catalog(content):
        raise WrongConfigError(f"{kind}: {name}: not a catalog; {remedy}")
    return StringIO(json.dumps(content))


def _is_catalog(content: dict[str, Any]) -> bool:
    """Return whether the SDK can read a catalog, which people edit by hand."""
    match content:
        case {"streams": [*streams]} if all(map(_is_of_catalog, streams)):
            with suppress(AttributeError, KeyError, TypeError, ValueError):
                Catalog.from_dict(content)
                return True
    return False


def _is_of_catalog(stream: object) -> bool:
    match stream:
        case {
            "tap_stream_id": str(name),
            "schema": {"properties": {**columns}},
            **more,
        }:
            return bool(columns) and more.get("stream", name) == name
    return False


def run(plugin: type[StairoidsPlugin]) -> None:
    """Run a plugin as a program."""
    check_log_level(plugin.name)
    word = next(iter(sys.argv[1:]), "")
    # As in `ledger --help`, which would print the help of the plugin.
    if word and not word.startswith("-"):
        hint = plugin.for_word.format(word)
        fail(f"`{plugin.name}` takes options only. {hint}", 2)
    with checked_stdout():
        plugin.cli()
