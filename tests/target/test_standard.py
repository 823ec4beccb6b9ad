"""The SDK's own test suite for targets, with a sandbox as the API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from singer_sdk.testing import get_target_test_class
from singer_sdk.testing.runners import TargetTestRunner

from target_stairoids.target import TargetStairoids

if TYPE_CHECKING:
    from pathlib import Path

    from stairoids_sandbox import Sandbox

_Suite = get_target_test_class(TargetStairoids, config={})


class TestTargetStairoids(_Suite):  # type: ignore[misc,valid-type]  # made at run time
    """Sends the records of the suite to a sandbox."""

    @pytest.fixture
    def runner(self, sandbox: Sandbox, tmp_path: Path) -> TargetTestRunner:
        config = {
            "api_url": sandbox.url,
            "api_key": "sk_test_sandbox",
            "ledger_url": f"sqlite:///{tmp_path / 'ledger.db'}",
            # The records of the suite have neither an email nor a domain.
            "signals": [{"stream": "*", "account": {"domain": "example.com"}}],
        }
        return TargetTestRunner(target_class=TargetStairoids, config=config)
