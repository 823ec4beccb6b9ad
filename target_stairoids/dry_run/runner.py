"""Run the target inside a command: dry runs, baselines and replays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import IO, Any

from target_stairoids.exceptions import MessageError
from target_stairoids.sending.observer import Observer
from target_stairoids.settings import Settings
from target_stairoids.target import INPUT_ERRORS, target_from

#: No ledger can be there, and a dry run takes a missing one for an empty one.
NO_LEDGER = f"sqlite:///{os.devnull}/none"


def run(
    config_inputs: Sequence[str],
    messages: IO[str] | list[str],
    *,
    observer: Observer | None = None,
    overrides: Mapping[str, Any] | None = None,
    **defaults: object,
) -> Settings:
    """Run the target over Singer messages, and return its settings.

    Args:
        overrides: Setting -> value, in place of the config's.
        defaults: Settings that the config may lack.

    Raises:
        StairoidsError: The run failed.
    """
    target = target_from(config_inputs, **defaults)
    target.observer, target.overrides = observer, overrides or {}
    lines = StringIO("\n".join(messages)) if isinstance(messages, list) else messages
    try:
        target.listen(lines)
    except INPUT_ERRORS as error:
        raise MessageError(str(error)) from error
    return target.settings()


def run_dry(
    config_inputs: Sequence[str],
    messages: IO[str] | list[str],
    observer: Observer,
    **overrides: object,
) -> Settings:
    """Run the target without an API key. It sends nothing and writes nothing."""
    dry = {**overrides, "dry_run": True, "report_path": None}
    return run(
        config_inputs, messages, observer=observer, overrides=dry, api_key="not used"
    )
