"""A person: whom a body is about, told by e-mail address or contact id."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tap_stairoids_webhooks.event import payload_from
from tap_stairoids_webhooks.exceptions import MalformedBodyError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Whose events are asked for; one of the two is enough to recognise them.

    Attributes:
        email: Found anywhere in a text, in any case, but not as a part of a
            longer address.
        contact_id: Found as a whole value.
    """

    email: str | None = field(default=None, repr=False)
    contact_id: str | None = None

    def is_in(self, body: bytes) -> bool:
        """Tell whether a body names this person, also one that does not parse."""
        pattern = self._pattern
        try:
            texts = _texts_in(payload_from(body))
        except MalformedBodyError:
            text = body.decode("utf-8", "replace")
            quoted = self.contact_id is not None and f'"{self.contact_id}"' in text
            return quoted or bool(pattern and pattern.search(text))
        return any(
            text == self.contact_id or bool(pattern and pattern.search(text))
            for text in texts
        )

    @property
    def _pattern(self) -> re.Pattern[str] | None:
        if not self.email:
            return None
        address = re.escape(self.email.strip())
        return re.compile(rf"(?<![\w.+-]){address}(?![\w-])(?!\.\w)", re.IGNORECASE)


def _texts_in(payload: object) -> Iterator[str]:
    """Yield keys and values at any depth, numbers as their text."""
    level = [payload]
    while level:
        below: list[object] = []
        for value in level:
            match value:
                case dict():
                    below += value.keys()
                    below += value.values()
                case list():
                    below += value
                case None | bool():
                    pass
                case _:
                    yield str(value)
        level = below
