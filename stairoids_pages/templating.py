"""Load templates with the shared style and filters, for served pages and for files.

The filters shorten foreign text and make invisible characters visible: control
characters, and marks that change the direction of reading. The templates escape HTML.
"""

from __future__ import annotations

import re
from importlib.resources import files

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# Joiners are invisible too, but emoji and several scripts need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def template_environment(package: str) -> Environment:
    """Return the templates in a package's folder `templates`.

    They may extend the shared templates. All values are escaped. The variable `style`
    holds the style sheet.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("stairoids_pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters |= {
        "pretty": pretty,
        "shown": shown,
        "size": size_of,
        "visible": visible,
    }
    environment.globals["style"] = Markup(asset("style.css"))  # noqa: S704 -- a file of ours
    return environment


def asset(name: str) -> str:
    """Return the text of a shared file."""
    return (files("stairoids_pages") / "templates" / name).read_text(encoding="utf-8")


def visible(text: str) -> str:
    r"""Write invisible characters as ``\uXXXX``. Line ends and tabs stay."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(value: object, length: int = 120) -> str:
    """Return at most ``length`` characters of a value, with a note if it is longer."""
    text = str(value)
    if len(text) <= length:
        return visible(text)
    return f"{visible(text[:length])}… ({len(text):,} characters)"


def pretty(body: bytes, length: int = 65_536) -> str:
    """Indent a body that is JSON, without a change of its numbers.

    Args:
        body: Any bytes.
        length: The most bytes to show. A longer body is not indented.
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
