"""Trace the way of one record through the code, from the RECORD line to the POST.

Usage: `python -m benchmarks.trace_record [--list]`. A sandbox receives the signal. The
script counts each project file that runs, and each change from one file to another.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = tuple(f"{ROOT / name}/" for name in ("target_stairoids", "stairoids_common"))
SCHEMA = {
    "type": "SCHEMA",
    "stream": "trials",
    "key_properties": ["id"],
    "bookmark_properties": ["updated_at"],
    "schema": {
        "properties": {
            "id": {"type": "integer"},
            "email": {"type": "string"},
            "plan": {"type": "string"},
            "updated_at": {"type": "string", "format": "date-time"},
        }
    },
}
RECORD = {
    "type": "RECORD",
    "stream": "trials",
    "record": {
        "id": 1,
        "email": "ada@example.com",
        "plan": "team",
        "updated_at": "2026-01-01T00:00:00Z",
    },
}


class Trace:
    """Notes the file of each project function that starts or is returned to.

    Starts when the RECORD line is handed out, and ends when the POST leaves. Once a
    worker has the request, the deciding thread waits for other work. That part is left
    out, because its length depends on the scheduling of threads.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.is_on = False
        self.without: int | None = None  # the thread that is left out

    def note(self, filename: str) -> None:
        """Add a file, unless the last one is the same."""
        if not self.is_on or not filename.startswith(PACKAGES):
            return
        name = str(Path(filename).relative_to(ROOT))
        if not self.files or self.files[-1] != name:
            self.files.append(name)

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Any:  # noqa: ANN401 - as sys.settrace wants it
        """Note a call; `sys.settrace` and `threading.settrace` use this."""
        if event == "call" and threading.get_ident() != self.without:
            self.note(frame.f_code.co_filename)
            if frame.f_code.co_name == "hand_in":
                self.without = threading.get_ident()
            elif frame.f_code.co_name == "post_signal":
                self.is_on = False
        return None


def lines(trace: Trace) -> Iterator[str]:
    """Yield Singer messages; switch the trace on right before the RECORD line."""
    yield json.dumps(SCHEMA) + "\n"
    trace.is_on = True
    yield json.dumps(RECORD) + "\n"


def trace() -> list[str]:
    """Send one record to a sandbox; return the files in the order they were entered."""
    from stairoids_sandbox import Sandbox  # noqa: PLC0415 - traced code stays cold
    from target_stairoids.target import TargetStairoids  # noqa: PLC0415 - same

    tracer = Trace()
    with tempfile.TemporaryDirectory() as folder, Sandbox() as sandbox:
        target = TargetStairoids(
            config={
                "api_key": sandbox.api_key,
                "api_url": sandbox.url,
                "first_run": "send",
                "ledger_url": f"sqlite:///{folder}/ledger.db",
            }
        )
        logging.disable(logging.CRITICAL)
        sys.settrace(tracer)
        threading.settrace(tracer)
        try:
            target.listen(lines(tracer))  # type: ignore[arg-type]  # an iterator of lines is enough
        finally:
            sys.settrace(None)
            threading.settrace(None)
    if tracer.is_on:
        text = "The record was not sent."
        raise SystemExit(text)
    return tracer.files


def main() -> None:
    """Print how many files and changes of file a record's way has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print each change of file")
    arguments = parser.parse_args()
    files = trace()
    if arguments.list:
        for name in files:
            print(f"  {name}")
    print(f"{len(set(files))} files, {len(files) - 1} changes of file")


if __name__ == "__main__":
    main()
