"""`target-stairoids`, also as `python -m target_stairoids`."""

from __future__ import annotations

import gc


def main() -> None:
    """Run the target, collecting no garbage until something is read.

    What a process loads it keeps. To look through that again and again would be a tenth
    of a repeated sync.
    """
    gc.disable()
    from target_stairoids.target import TargetStairoids  # noqa: PLC0415 - see above

    TargetStairoids.cli()


if __name__ == "__main__":
    main()
