"""`target-stairoids`, also as `python -m target_stairoids`."""

from __future__ import annotations

import gc
import signal
import sys


def main() -> None:
    """Run the target, without garbage collection until the first message.

    Loaded modules stay in memory. Searching them for garbage would take a tenth of a
    repeated sync.
    """
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports
    from stairoids_common.error_ids import fail  # noqa: PLC0415 - see above
    from stairoids_common.plugin import run  # noqa: PLC0415 - see above
    from target_stairoids.target import TargetStairoids  # noqa: PLC0415 - see above

    word = next(iter(sys.argv[1:]), "")
    # As in `ledger --help`, which would print the target's help.
    if word and not word.startswith("-"):
        text = "The target takes options only. A command is `stairoids-signals "
        text += f"{word}`, and a file is `--input {word}`."
        fail(text, 2)
    run(TargetStairoids)


if __name__ == "__main__":
    main()
