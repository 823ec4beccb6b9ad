"""`target-stairoids`, also as `python -m target_stairoids`."""

from __future__ import annotations

import gc
import signal


def main() -> None:
    """Run the target, without garbage collection until the first message.

    Loaded modules stay in memory. Searching them for garbage would take a tenth of a
    repeated sync.
    """
    gc.disable()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback of the imports
    from stairoids_common.cli import checked_stdout  # noqa: PLC0415 - see above
    from stairoids_common.singer import check_log_level  # noqa: PLC0415 - see above
    from target_stairoids.target import TargetStairoids  # noqa: PLC0415 - see above

    check_log_level(TargetStairoids.name)
    with checked_stdout():
        TargetStairoids.cli()


if __name__ == "__main__":
    main()
