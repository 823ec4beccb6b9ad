"""Run `target-stairoids` and `stairoids-signals` inside the test's process."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import click
from click.testing import CliRunner
from typing_extensions import override

from target_stairoids.cli.main import main
from target_stairoids.target import TargetStairoids

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.singer_io import TargetUnderTest

_LOGGERS = ("target-stairoids", "target_stairoids", "singer_sdk.metrics")


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


class _TargetCommand(click.Command):
    """Makes the command late, because the SDK configures logging when it is made."""

    @override
    def main(self, *args: Any, **options: Any) -> Any:
        return TargetStairoids.cli.main(*args, **options)


def signals(
    target: TargetUnderTest,
    *words: str | Path,
    text: str = "",
    env: dict[str, str] | None = None,
    **config: object,
) -> Done:
    """Run `stairoids-signals` with the config of a target.

    Args:
        text: Stdin.
        config: Settings over those of the target.
    """
    path = target.folder / "config.json"
    path.write_text(json.dumps({**target.config, **config}))
    return command(*words, "--config", path, text=text, env=env)


def command(
    *words: str | Path, text: str = "", env: dict[str, str] | None = None
) -> Done:
    """Run `stairoids-signals`."""
    return _invoke(main, words, input=text, env=env)


def target_command(target: TargetUnderTest, text: str, **config: object) -> Done:
    """Run `target-stairoids` over the output of a tap.

    Args:
        config: Settings over those of the target.
    """
    config_path = target.folder / "config.json"
    config_path.write_text(json.dumps({**target.config, **config}))
    messages = target.folder / "messages.jsonl"
    messages.write_text(text)
    return target_main("--config", config_path, "--input", messages)


def target_main(*words: str | Path) -> Done:
    """Run `target-stairoids`."""
    return _invoke(_TargetCommand("target-stairoids"), words)


def _invoke(
    program: click.Command, words: tuple[str | Path, ...], **options: Any
) -> Done:
    """Run a command with the logging of a new process.

    Raises:
        Exception: The command failed in a way it does not expect.
    """
    with _as_in_a_new_process():
        done = CliRunner().invoke(program, [*map(str, words)], **options)
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Done(done.exit_code, done.stdout, without_ids(done.stderr))


def without_ids(printed: str) -> str:
    """Return errors without their ids, which `test_troubleshooting.py` tests."""
    return re.sub(r" \[E\d+\]$", "", printed, flags=re.MULTILINE)


@contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    """Leave out the log handlers of pytest, and undo the changes of a command."""
    root, hook = logging.getLogger(), sys.excepthook
    handlers, root.handlers = root.handlers, []
    loggers = [root, *map(logging.getLogger, _LOGGERS)]
    levels = [logger.level for logger in loggers]
    root.setLevel(logging.WARNING)
    for logger in loggers[1:]:
        logger.setLevel(logging.NOTSET)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        sys.excepthook = hook
        logging.captureWarnings(capture=False)
        root.handlers = handlers
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
