"""What ends a connector on purpose, as Airbyte is told of it.

ConnectorError          one sentence, a failure type, an exit code
├── WrongConfigError    config, catalog or state are wrong  -> mend them
├── UnfinishedError     the same sync may succeed later     -> run again
└── BrokenError         something else does not work        -> see the sentence

The plugins' own errors become one of these at the edge. No message ever holds a
record's values or a secret, because all of them end up in logs.
"""

from __future__ import annotations

from typing import ClassVar


class ConnectorError(Exception):
    """Root of every error that ends a connector on purpose.

    Args:
        message: One sentence for the operator.
        exit_code: How the program ends.

    Attributes:
        failure_type: What Airbyte calls an error of this kind.
    """

    failure_type: ClassVar[str]

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class WrongConfigError(ConnectorError):
    """Config, catalog or state are wrong: the same sync would fail again."""

    failure_type = "config_error"


class UnfinishedError(ConnectorError):
    """Something is left to do, and the next sync resumes it."""

    failure_type = "transient_error"


class BrokenError(ConnectorError):
    """Something else does not work; neither the config nor time will mend it."""

    failure_type = "system_error"
