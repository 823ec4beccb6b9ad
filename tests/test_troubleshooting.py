"""docs/troubleshooting.md has the messages users meet, as the programs say them."""

from __future__ import annotations

import pytest

from tests.troubleshooting import all_texts, documented, has

PACKAGES = ("target_stairoids", "tap_stairoids_webhooks", "stairoids_sandbox")
#: Rows of the page about what is no text of ours.
OF_OTHERS = {"422 and a text of Stairoids", "unknown"}


@pytest.mark.parametrize("row", documented())
def test_documented_message_is_one_of_ours(row: str) -> None:
    texts = (text for package in PACKAGES for text in all_texts(package))

    assert row in OF_OTHERS or any(has(text, row) for text in texts)
