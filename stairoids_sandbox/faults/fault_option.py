"""A fault as the shell writes it: ``status,status=503,probability=0.2,seed=7``."""

from __future__ import annotations

import msgspec

from stairoids_sandbox.exceptions import UsageError
from stairoids_sandbox.faults.faults import Fault


def fault_from(text: str) -> Fault:
    """Read the value of ``--fault``.

    Raises:
        UsageError: It does not say a fault; the message says what is wrong.
    """
    kind, *options = text.split(",")
    fields = {"kind": kind}
    for option in options:
        name, found, value = option.partition("=")
        if not found or name not in Fault.__slots__ or name in fields:
            msg = f"--fault: {option!r} is unknown, given twice or lacks its value"
            raise UsageError(msg)
        fields[name] = value
    try:
        return msgspec.convert(fields, Fault, strict=False)
    except msgspec.ValidationError as error:
        msg = f"--fault: {error}"
        raise UsageError(msg) from error
