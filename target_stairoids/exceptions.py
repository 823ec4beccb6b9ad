"""What can go wrong between a record and an accepted signal.

StairoidsError                the run cannot go on; `exit_code` says how it ends
├── ConfigError               a setting or a mapping is wrong   -> mend the config
├── MessageError              the tap printed something wrong   -> mend the tap
├── LedgerError               the ledger cannot be used         -> mend or name another
├── AccessRefusedError        Stairoids refuses the key or URL  -> mend the config
├── IncompleteError           not all is settled, on purpose    -> run again
├── DeadLettersError          all is settled, not all accepted  -> see the dead letters
└── InterruptedRunError       SIGTERM or SIGINT came            -> run again
InvalidSignalError            one record cannot become a signal -> dead letter, go on

Pick the class by what the caller does next, not by where the fault appeared. No
message ever holds a record's values or a secret, because all of them end up in logs.
"""

from __future__ import annotations


class StairoidsError(Exception):
    """Root of every error that ends a run on purpose.

    Args:
        message: One sentence for the operator: what happened where, and the remedy.
    """

    exit_code = 1


class ConfigError(StairoidsError):
    """A setting or a mapping is wrong: nothing was sent because of it."""


class MessageError(StairoidsError):
    """The tap printed a message no Singer target can use."""


class MissingKeyError(MessageError):
    """A record lacks a column of its key."""


class LedgerError(StairoidsError):
    """The ledger cannot be opened, read or written."""


class AccessRefusedError(StairoidsError):
    """Stairoids refuses the key, its scope or the address: the config is at fault."""


class IncompleteError(StairoidsError):
    """Something is left to do and the next run resumes it (`EX_TEMPFAIL`)."""

    exit_code = 75


class DeadLettersError(StairoidsError):
    """Everything is settled, and some of it as dead letters, which was to be told."""


class InterruptedRunError(StairoidsError):
    """The run was told to stop.

    Args:
        signal_number: The signal that came; the exit code is 128 more.
    """

    def __init__(self, signal_number: int) -> None:
        self.exit_code = 128 + signal_number
        super().__init__(f"Stopped by signal {signal_number}; the next run resumes.")


class InvalidSignalError(Exception):
    """A record cannot become a signal that Stairoids would take.

    Args:
        reason: Names the signal's field and the rule it breaks, never a value.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)
