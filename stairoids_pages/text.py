"""Text of strangers, made fit to be shown: short, and with nothing unseen in it.

Escaping for HTML is the templates' part. Here a text loses what would deceive an eye
(control characters, marks that turn the direction of reading) and what would drown a
page.
"""

from __future__ import annotations

import re

import msgspec

# Of the invisible ones the joiners stay: emoji and several scripts need them.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Write what cannot be seen as ``\uXXXX``; line ends and tabs stay."""
    return _UNSEEN.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(value: object, length: int = 120) -> str:
    """Return at most so many characters of a value; what was cut off is counted."""
    text = str(value)
    if len(text) <= length:
        return visible(text)
    return f"{visible(text[:length])}… ({len(text):,} characters)"


def pretty(body: bytes, length: int = 65_536) -> str:
    """Return a body indented if it is JSON, as it is if not; numbers keep their digits.

    Args:
        body: Any bytes.
        length: How many bytes to show at most; a longer body is not indented.
    """
    if len(body) > length:
        start = body[:length].decode("utf-8", errors="replace")
        return f"{visible(start)}… ({len(body):,} bytes)"
    try:
        text = msgspec.json.format(body, indent=2)
    except (msgspec.DecodeError, RecursionError):
        text = body
    return visible(text.decode("utf-8", errors="replace"))


def size_of(number: int) -> str:
    """Return a number of bytes for people: ``512 B``, ``1.4 kB``, ``3.0 MB``."""
    if number < 1_000:
        return f"{number} B"
    amount = float(number)
    for unit in ("kB", "MB", "GB", "TB"):
        amount /= 1_000
        if amount < 999.95 or unit == "TB":
            break
    return f"{amount:,.1f} {unit}"
