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
    from stairoids_common.plugin import run  # noqa: PLC0415 - see above
    from target_stairoids.target import TargetStairoids  # noqa: PLC0415 - see above

    run(TargetStairoids)


if __name__ == "__main__":
    main()
