"""The SDK still has the private hooks that the target overrides.

Without these tests, a release of the SDK that renames a hook would break the target
unnoticed.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from singer_sdk import Sink, Target
from singer_sdk.configuration import _dict_config
from singer_sdk.helpers._flattening import FlatteningOptions
from singer_sdk.mapper import SameRecordTransform
from singer_sdk.singerlib.encoding.base import GenericSingerReader

from target_stairoids.sinks import SignalSink, passes_unchanged
from target_stairoids.target import LineReader, TargetStairoids

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(TargetStairoids, Target), (SignalSink, Sink), (LineReader, GenericSingerReader)],
)
def test_every_override_overrides_a_method_of_the_sdk(ours: type, theirs: type) -> None:
    overrides = [
        name
        for name, member in vars(ours).items()
        if getattr(member, "__override__", False)
        or getattr(getattr(member, "__func__", None), "__override__", False)
    ]

    assert overrides
    assert [name for name in overrides if not hasattr(theirs, name)] == []


def test_sdk_writes_state_in_one_place_only() -> None:
    """`drain_all` writes `_latest_state`, which the target never sets."""
    source = inspect.getsource(Target)

    assert source.count("self._write_state_message(") == 1
    assert "if self._latest_state:" in inspect.getsource(Target.drain_all)


def test_reader_gets_callbacks_by_message_type() -> None:
    parameters = inspect.signature(GenericSingerReader.process_lines).parameters

    assert list(parameters) == ["self", "file_input", "callbacks"]


@pytest.mark.parametrize("record", [{"id": 1, "tags": {"a": [1]}}, {}])
def test_skipped_stream_map_returns_the_record_itself(
    record: dict[str, Any],
) -> None:
    stream_map = SameRecordTransform("s", {"properties": {}}, [], None)

    assert passes_unchanged(stream_map)
    assert stream_map.transform(record) is record


def test_stream_map_that_flattens_is_not_skipped() -> None:
    options = FlatteningOptions(enabled=True, max_level=1)
    stream_map = SameRecordTransform("s", {"properties": {}}, [], options)

    assert not passes_unchanged(stream_map)


def test_sdk_drains_one_sink_without_a_thread_pool() -> None:
    """`max_parallelism = 1` avoids the thread pool."""
    assert "if parallelism == 1" in inspect.getsource(Target._drain_all)


def test_env_file_does_not_override_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK reads a `.env` file above its own code."""
    (tmp_path / ".env").write_text("TARGET_STAIROIDS_SOURCE=of_a_file\n")
    found = str(tmp_path / ".env")
    monkeypatch.setattr(_dict_config, "find_dotenv", lambda: found)
    monkeypatch.setenv("TARGET_STAIROIDS_SOURCE", "of_the_environment")

    config = TargetStairoids._env_var_config

    assert config["source"] == "of_the_environment"
