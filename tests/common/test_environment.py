"""Settings from environment variables."""

from __future__ import annotations

import pytest

from stairoids_common.environment import environment_config

pytestmark = pytest.mark.fast

SCHEMA = {"properties": {"dry_run": {"type": ["boolean", "null"]}}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        (" TRUE ", True),
        ("1", True),
        ("yes", True),
        ("on", True),
        ("false", False),
        ("0", False),
        ("No", False),
        ("off", False),
        ("", False),
        # The validation of the config refuses these. As false they would send.
        ("ture", "ture"),
        ("y", "y"),
        ("2", "2"),
    ],
)
def test_a_boolean_is_never_guessed(
    monkeypatch: pytest.MonkeyPatch, text: str, value: object
) -> None:
    monkeypatch.setenv("TARGET_STAIROIDS_DRY_RUN", text)

    config = environment_config(SCHEMA, "TARGET_STAIROIDS_")

    assert config == {"dry_run": value}
