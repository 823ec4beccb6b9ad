"""The errors of the target.

Each class names the next step. No message holds a record's values or a secret, because
all messages may be logged.
"""

from __future__ import annotations

import signal

from stairoids_common.text import visible


class StairoidsError(Exception):
    """Ends a run on purpose: one or two sentences with problem, place and remedy."""

    exit_code = 1


class ConfigError(StairoidsError):
    """A setting or a mapping is wrong: fix the config."""


class SetAsideError(ConfigError):
    """A check set a stream aside: decide."""


class MessageError(StairoidsError):
    """The tap printed a message that no Singer target can use: fix the tap."""


class MissingKeyError(MessageError):
    """A record lacks a column of its key: fix the tap."""


class LedgerError(StairoidsError):
    """The ledger cannot be opened, read or written: fix it, or use another."""


class LostLedgerError(LedgerError):
    """The connection to the ledger broke off, such as by a restart: run again."""

    exit_code = 75


class AccessRefusedError(StairoidsError):
    """Stairoids refuses the key, its scope or the address: fix the config."""


class IncompleteError(StairoidsError):
    """Signals are pending (`EX_TEMPFAIL`): run again."""

    exit_code = 75


class InterruptedRunError(StairoidsError):
    """SIGTERM or SIGINT stopped the run: run again."""

    def __init__(self, number: int, step: str = "The next run resumes.") -> None:
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        super().__init__(f"Stopped by {name}. {step}")


class ReaderGoneError(StairoidsError):
    """STATE cannot be written, because stdout is a closed pipe: run again."""

    exit_code = 128 + signal.SIGPIPE


class InvalidSignalError(Exception):
    """A record cannot become a signal that Stairoids accepts: a dead letter, go on.

    The reason names the signal's field and the broken rule, never a value. It may have
    the name of a column, so invisible characters are written as escapes.
    """

    def __init__(self, reason: str) -> None:
        self.reason = visible(reason)
        super().__init__(self.reason)
