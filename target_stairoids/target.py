"""The Singer target.

The SDK's classes handle messages, stream maps, schemas and the command line.
`sending.Run` handles records. `tests/target/test_sdk_contract.py` checks the private
hooks of the SDK that this module overrides.
"""

from __future__ import annotations

import gc
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import IO, TYPE_CHECKING, Any, ClassVar

import click
from msgspec.structs import replace
from singer_sdk import Target
from singer_sdk import exceptions as sdk
from singer_sdk.helpers.capabilities import PluginCapabilities
from singer_sdk.io_base import SingerReader
from singer_sdk.plugin_base import PluginBase
from typing_extensions import override

from stairoids_common.cli import discard_stdout
from stairoids_common.config import NO_CONFIG, default_inputs, read_config
from stairoids_common.config_errors import WrongConfigError, one_a_line
from stairoids_common.environment import SHARED_VARIABLES
from stairoids_common.error_ids import WrongUsageError, fail
from stairoids_common.plugin import StairoidsPlugin
from stairoids_common.singer import begin, check_log_level
from target_stairoids.dedup.record import json_text
from target_stairoids.exceptions import (
    ConfigError,
    MessageError,
    MissingKeyError,
    ReaderGoneError,
    StairoidsError,
)
from target_stairoids.input import AT_ONCE, batch_records, read_messages
from target_stairoids.mapping.schema import check_message, schema_from
from target_stairoids.settings import Settings, config_schema
from target_stairoids.sinks import SignalSink

if TYPE_CHECKING:
    from target_stairoids.sending.observer import Observer
    from target_stairoids.sending.run import Run

_EXAMPLES = """\b
Examples:
  tap-x --config tap.json | target-stairoids --config config.json
  target-stairoids --config config.json --input messages.jsonl
  TARGET_STAIROIDS_API_KEY=... target-stairoids --config ENV
  target-stairoids --about --format=markdown

\b
Exit codes:
  0    all records have an outcome.
  1    the config, the key, the input or the ledger is wrong.
  2    the command line is wrong.
  75   signals are pending. The next run resumes them.
  128 + n  stopped by SIGTERM or SIGINT (number n).
  141  the reader of stdout is gone.

`stairoids-signals` shows the outcome of each record.
"""
_BATCH_ENCODINGS = (
    {"format": "jsonl", "compression": "gzip"},
    {"format": "jsonl", "compression": "none"},
    {"format": "jsonl", "compression": None},
    {"format": "jsonl"},
)
_NO_KEY = "`api_key` is required"
INPUT_ERRORS = (
    sdk.MissingKeyPropertiesError,
    sdk.RecordsWithoutSchemaException,
    sdk.StreamMapConfigError,
)


class LineReader(SingerReader):
    """Reads messages and lets the run of a target work between them."""

    def __init__(self, target: TargetStairoids) -> None:
        self._target = target

    @override
    def process_lines(
        self,
        file_input: IO[str] | None,
        callbacks: dict[str, Callable[[dict[str, Any]], None]],
    ) -> Counter[str]:
        source, run = file_input or sys.stdin, self._target.run
        return read_messages(source, run, callbacks, otherwise=_refuse_unknown)


class TargetStairoids(StairoidsPlugin, Target):
    """Sends the records of any tap to Stairoids as signals, each once."""

    name = "target-stairoids"
    summary = "Send the records of any Singer tap to Stairoids, each once."
    examples = _EXAMPLES
    for_word = "A command is `stairoids-signals {0}`, and a file is `--input {0}`."
    config_jsonschema = config_schema()
    default_sink_class = SignalSink
    capabilities: ClassVar = [
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
        PluginCapabilities.BATCH,
    ]

    def __init__(
        self,
        *,
        observer: Observer | None = None,
        overrides: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Take an observer, which sees every decision, and settings to replace."""
        self._observer, self._overrides = observer, overrides or {}
        self._run: Run | None = None
        super().__init__(message_reader=LineReader(self), **kwargs)
        self.max_parallelism = 1  # sinks have nothing to drain
        self._routes: dict[str, list[Callable[[Any], None]]] = {}
        self._batched = itertools.count(1)  # the records of BATCH files

    @property
    def run(self) -> Run:
        """The run, made when the first message is read."""
        if self._run is None:
            from target_stairoids.sending.run import Run  # noqa: PLC0415 - SQLAlchemy is slow to import, and --version does not need it

            self._run = Run(
                self.settings(), write_state=_print_state, observer=self._observer
            )
            if not gc.isenabled():  # see `__main__`: loaded modules stay in memory
                gc.freeze()
                gc.set_threshold(50_000)  # records are many, and leave no cycles
                gc.enable()
        return self._run

    def settings(self) -> Settings:
        """Return the config as a struct."""
        return replace(Settings.from_config(self.config), **self._overrides)

    def check_stream_maps(self) -> None:
        """Refuse stream maps that are wrong for the columns of any stream."""
        for stream, stream_map in self.stream_map_items():
            keys = stream_map.get("__key_properties__") or ()
            schema: dict[str, Any] = {"properties": {key: {} for key in keys}}
            with _schema_errors(stream):
                self.mapper.register_raw_stream_schema(stream, schema, None)
                self.check_stream_maps_of(stream, ())

    # Messages

    @override
    def process_endofpipe(self) -> None:
        is_partial = self.run.stop.reason or self._overrides.get("is_partial")
        if self.mapper.stream_maps and not is_partial:
            self.warn_of_unused_stream_maps()
        self.run.finish()
        super().process_endofpipe()

    @override
    def _process_schema_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, requires={"stream", "schema"})
        check_message(message_dict)
        stream, schema = message_dict["stream"], schema_from(message_dict)
        # An open schema, as tap-dynamodb prints it; the SDK insists on the key.
        message_dict["schema"].setdefault("properties", {})
        columns = () if schema.is_open else schema.properties
        with _schema_errors(stream):
            self.check_stream_map_names(stream)
            super()._process_schema_message(message_dict)
            self.check_stream_maps_of(stream, columns)
        for stream_map in self.mapper.stream_maps[stream]:
            if self.sink_exists(stream_map.stream_alias):
                sink = self.get_sink(stream_map.stream_alias)
                assert isinstance(sink, SignalSink)  # noqa: S101 - the only class there is
                sink.follow(stream_map, schema.bookmark, schema.source)
        self._routes.clear()

    @override
    def _process_record_message(self, message_dict: dict[str, Any]) -> None:
        stream, record = message_dict.get("stream"), message_dict.get("record")
        if not isinstance(stream, str) or not isinstance(record, (dict, Iterator)):
            raise MessageError("A RECORD message lacks its stream or its record.")
        records = record if isinstance(record, Iterator) else iter((record,))
        try:
            takers = self._routes.get(stream) or self._takers_of(stream)
            if len(takers) == 1:
                takers[0](records)
            else:
                for one, take in itertools.product(records, takers):
                    take((one,))
        except MissingKeyError as error:
            raise sdk.MissingKeyPropertiesError(str(error)) from error

    @override
    def _process_batch_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, {"stream", "encoding", "manifest"})
        stream, encoding = message_dict["stream"], message_dict["encoding"]
        if not isinstance(stream, str):
            raise MessageError("The `stream` of a BATCH message is not a text.")
        if encoding not in _BATCH_ENCODINGS:
            raise MessageError(
                f"A BATCH of stream `{stream}` is not in the format `jsonl`, plain or "
                "with `gzip`. Change the tap's `batch_config`."
            )
        files = message_dict["manifest"]
        if not isinstance(files, list) or not all(isinstance(f, str) for f in files):
            raise MessageError(
                f"The `manifest` of a BATCH of stream `{stream}` is no list of files."
            )
        is_gzip = encoding.get("compression") == "gzip"
        for take, file in itertools.product(self._takers_of(stream), files):
            for record in batch_records(file, stream, is_gzip=is_gzip):
                if self.run.stop.reason is not None:
                    self.run.leave_rest()
                    return
                take((record,))
                if next(self._batched) % AT_ONCE == 0:
                    self.run.work()

    @override
    def _process_activate_version_message(self, message_dict: dict[str, Any]) -> None:
        """Do nothing, because sent signals cannot be taken back."""

    @override
    def _process_state_message(self, message_dict: dict[str, Any]) -> None:
        self._assert_line_requires(message_dict, requires={"value"})
        value = message_dict["value"]
        if value is not None and not isinstance(value, dict):
            raise MessageError("The `value` of a STATE message is not an object.")
        if value:  # Meltano and other runners ignore an empty state
            try:
                self.run.records.state(json_text(value).decode())
            except (ValueError, OverflowError, RecursionError) as error:
                msg = "A STATE message holds a value that is not JSON."
                raise MessageError(msg) from error

    def _takers_of(self, stream: str) -> list[Callable[[Any], None]]:
        if stream not in self.mapper.stream_maps:
            self._assert_sink_exists(stream)
        maps = self.mapper.stream_maps[stream]
        aliases = [m.stream_alias for m in maps if self.sink_exists(m.stream_alias)]
        takers = [self.get_sink(alias).take for alias in aliases]  # type: ignore[attr-defined]  # of a SignalSink
        return self._routes.setdefault(stream, takers)

    @override
    def _assert_line_requires(
        self, message_dict: dict[str, Any], requires: set[str]
    ) -> None:
        lacking = sorted(requires - set(message_dict))
        if lacking:
            missing = ", ".join(f"`{name}`" for name in lacking)
            raise MessageError(f"A {message_dict.get('type')} message lacks {missing}.")

    # Life cycle

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        if self._run is None:
            sys.exit(128 + signum)
        self._run.interrupt(signum)

    # Command line

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        option = next(p for p in command.params if p.name == "config")
        assert isinstance(option, click.Option)  # noqa: S101 - the SDK's
        option.help = f"{option.help} Default: STAIROIDS_CONFIG, else ./config.json."
        return command

    @classmethod
    @override
    def append_builtin_config(cls, config_jsonschema: dict[str, Any]) -> None:
        """Add the settings for stream maps and flattening only."""
        PluginBase.append_builtin_config.__func__(cls, config_jsonschema)  # type: ignore[attr-defined]  # past Target's own

    @classmethod
    @override
    def cb_config(
        cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]
    ) -> Any:
        """Return the paths. `invoke` reads them, so that `--about` needs no config."""
        return value

    @classmethod
    @override
    def invoke(cls, **kwargs: Any) -> None:
        """Run. Expected errors become one sentence and an exit code."""
        inputs, source = kwargs.pop("config"), kwargs.pop("file_input")
        begin(cls.name)
        PluginBase.invoke.__func__(cls, **kwargs)  # type: ignore[attr-defined]  # past Target's own
        if source is None and sys.stdin.isatty():
            click.echo(f"{click.get_current_context().get_help()}\n")
            fail("No input. Pipe the output of a tap into it.", 2)
        if not (configs := inputs or default_inputs()):
            raise WrongUsageError(NO_CONFIG)
        try:
            target_from(configs).listen(source)
        except (StairoidsError, *INPUT_ERRORS) as error:
            cls.logger.error("%s", error)  # noqa: TRY400 - the sentence says it all
            sys.exit(getattr(error, "exit_code", 1))


@contextmanager
def _schema_errors(stream: str) -> Iterator[None]:
    """Turn an error of the SDK about a SCHEMA or a stream map into one sentence."""
    try:
        yield
    except (sdk.MapExpressionError, sdk.StreamMapConfigError) as error:
        raise ConfigError(
            f"Stream `{stream}`: its `stream_maps` in the config are wrong. {error}"
        ) from None
    except (StairoidsError, *INPUT_ERRORS):
        raise
    except RecursionError:
        text = f"The SCHEMA of stream `{stream}` is nested too deeply."
        raise MessageError(text) from None
    except Exception as error:  # the SDK flattens correct schemas only
        raise MessageError(
            f"The SCHEMA of stream `{stream}` does not fit the flattening of the "
            f"config ({type(error).__name__})."
        ) from error


def _refuse_unknown(message: dict[str, Any]) -> None:
    msg = f"The input holds a message of the unknown type `{message['type'][:40]}`."
    raise MessageError(msg)


def _print_state(text: str) -> None:
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except OSError as error:
        discard_stdout()
        if isinstance(error, BrokenPipeError):
            raise ReaderGoneError(
                "STATE could not be written, because the reader of stdout is gone. No "
                "signals were lost. Run again."
            ) from error
        msg = f"STATE could not be written: {error.strerror}. Run again."
        raise StairoidsError(msg) from error


def settings_from(config_inputs: Sequence[str]) -> Settings:
    """Return the settings in `--config`; see `target_from`."""
    return target_from(config_inputs, may_send=False).settings()


def target_from(
    config_inputs: Sequence[str] | Mapping[str, Any],
    *,
    may_send: bool = True,
    observer: Observer | None = None,
    overrides: Mapping[str, Any] | None = None,
    **defaults: object,
) -> TargetStairoids:
    """Return a target with the config in `--config`, and defaults for its settings.

    The config may also be that of another target. `may_send` is that of `read_config`.
    """
    check_log_level(TargetStairoids.name)
    schema = TargetStairoids.full_schema()
    prefix = TargetStairoids._env_var_prefix  # noqa: SLF001 - of the SDK
    try:
        given = config_inputs
        if not isinstance(given, Mapping):
            given = read_config(given, schema, prefix, may_send=may_send)
        config = {**defaults, **given}
        return TargetStairoids(config=config, observer=observer, overrides=overrides)
    except WrongConfigError as error:
        problem = one_a_line(sorted(error.errors, key=_NO_KEY.__eq__))
        if _NO_KEY in error.errors:
            problem += f" Set it in the config, or as {SHARED_VARIABLES['api_key']}."
        raise ConfigError(problem) from None
