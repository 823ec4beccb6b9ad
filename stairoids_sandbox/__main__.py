"""Run ``stairoids-sandbox`` as ``python -m stairoids_sandbox``."""

from __future__ import annotations

from stairoids_sandbox.cli import main

if __name__ == "__main__":
    main(prog_name="stairoids-sandbox")
