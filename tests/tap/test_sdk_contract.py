"""The private hooks of the Singer SDK that the tap uses.

If a test fails after an upgrade, look at the method that its docstring names.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

from singer_sdk import Stream, Tap
from singer_sdk.configuration import _dict_config
from singer_sdk.contrib.msgspec import enc_hook
from singer_sdk.helpers._util import utc_now
from singer_sdk.mapper import DefaultStreamMap, SameRecordTransform
from singer_sdk.plugin_base import PluginBase

from tap_stairoids_webhooks.tap import TapStairoidsWebhooks

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_sdk_calls_our_record_hook() -> None:
    """streams.py, `_generate_record_messages`."""
    source = inspect.getsource(Stream._write_record_message)

    assert "self._generate_record_messages(record)" in source
    assert list(inspect.signature(Stream._generate_record_messages).parameters) == [
        "self",
        "record",
    ]
    assert issubclass(SameRecordTransform, DefaultStreamMap)
    assert utc_now().tzinfo is not None
    assert enc_hook(1) == "1"


def test_sdk_calls_our_config_validation() -> None:
    """tap.py, `_validate_config`: the SDK's messages repeat a secret."""
    assert "self._validate_config(" in inspect.getsource(PluginBase)


def test_sdk_calls_our_signal_handler() -> None:
    """tap.py, `_handle_termination`."""
    assert list(inspect.signature(Tap._handle_termination).parameters) == [
        "self",
        "signum",
        "frame",
    ]


def test_sdk_calls_our_start_hook_in_runs_only() -> None:
    """tap.py, `_set_compatible_replication_methods`."""
    hook = "self._set_compatible_replication_methods()"

    assert hook in inspect.getsource(Tap.sync_all)
    assert hook not in inspect.getsource(Tap.run_sync_dry_run)


def test_dotenv_file_does_not_change_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK looks for a `.env` above its own code, and lets it win."""
    (tmp_path / ".env").write_text("TAP_STAIROIDS_WEBHOOKS_CONSUMER=of_a_file\n")
    found = str(tmp_path / ".env")
    monkeypatch.setattr(_dict_config, "find_dotenv", lambda: found)
    monkeypatch.setenv("TAP_STAIROIDS_WEBHOOKS_CONSUMER", "of_the_environment")

    config = TapStairoidsWebhooks._env_var_config

    assert config["consumer"] == "of_the_environment"
