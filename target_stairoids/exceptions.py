"""The errors of the target.

StairoidsError           the run cannot continue              -> see `exit_code`
├── ConfigError          a setting or mapping is wrong        -> fix the config
│   └── SetAsideError    a check set a stream aside           -> decide
├── MessageError         the tap printed a wrong message      -> fix the tap
│   └── MissingKeyError  a record lacks its key               -> fix the tap
├── LedgerError          the ledger cannot be used            -> fix it, or use another
├── AccessRefusedError   Stairoids refuses the key or URL     -> fix the config
├── IncompleteError      signals are pending                  -> run again
├── InterruptedRunError  SIGTERM or SIGINT came               -> run again
├── ReaderGoneError      stdout is a closed pipe              -> run again
└── DeadLettersError     some records became dead letters     -> look at them
InvalidSignalError       one record cannot become a signal    -> dead letter, go on

No message holds a record's values or a secret, because all messages may be logged.
"""

from __future__ import annotations

import signal


class StairoidsError(Exception):
    """Ends a run on purpose.

    Args:
        message: One or two sentences: the problem, its place, and the remedy.

    Attributes:
        exit_code: The exit code of the program.
    """

    exit_code = 1


class ConfigError(StairoidsError):
    """A setting or a mapping is wrong."""


class SetAsideError(ConfigError):
    """A check set a stream aside; a person decides."""


class MessageError(StairoidsError):
    """The tap printed a message that no Singer target can use."""


class MissingKeyError(MessageError):
    """A record lacks a column of its key."""


class LedgerError(StairoidsError):
    """The ledger cannot be opened, read or written."""


class AccessRefusedError(StairoidsError):
    """Stairoids refuses the key, its scope or the address."""


class IncompleteError(StairoidsError):
    """Signals are pending, and the next run sends them (`EX_TEMPFAIL`)."""

    exit_code = 75


class InterruptedRunError(StairoidsError):
    """SIGTERM or SIGINT stopped the run.

    Args:
        number: The number of the POSIX signal. The exit code is 128 more.
    """

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        name = signal.Signals(number).name
        super().__init__(f"Stopped by {name}. The next run resumes.")


class ReaderGoneError(StairoidsError):
    """STATE cannot be written, because stdout is a closed pipe."""

    exit_code = 128 + signal.SIGPIPE

    def __init__(self) -> None:
        super().__init__(
            "STATE could not be written, because the reader of stdout is gone. No "
            "signals were lost. Run again."
        )


class DeadLettersError(StairoidsError):
    """Some records became dead letters, and `fail_on_dead_letters` is set."""


class InvalidSignalError(Exception):
    """A record cannot become a signal that Stairoids accepts.

    Args:
        reason: Names the signal's field and the broken rule, never a value.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
