"""Load templates with the shared style and filters, for served pages and for files.

The filters shorten foreign text and make invisible characters visible: control
characters, and marks that change the direction of reading. The templates escape HTML.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from itertools import accumulate

import msgspec
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from stairoids_common.text import CODE, visible

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_MAX_BODY = 65_536  # bytes of a body that is indented
_MAX_INDENTED = 5_000_000  # bytes of a body times its depth
_MAX_FOLDS = 8  # folds in folds
_MAX_PARTS = 3_000  # lines and folds; the rest has no folds
_LONG = 100  # lines


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
        "coded": coded,
        "folded": folded,
        "number": "{:,}".format,
        "shown": shown,
        "size": size_of,
        "visible": visible,
    }
    environment.globals["style"] = Markup(asset("style.css"))  # noqa: S704 -- a file of ours
    return environment


def asset(name: str) -> str:
    """Return the text of a shared file."""
    return (files("stairoids_pages") / "templates" / name).read_text(encoding="utf-8")


def hash_of(text: str) -> str:
    """Return the source of an inline style or script in a content security policy."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def shown(value: object, length: int = 120) -> str:
    """Return at most ``length`` characters of a value, with a note if it is longer."""
    text = str(value)
    if len(text) <= length:
        return visible(text)
    return f"{visible(text[:length])}… ({len(text):,} characters)"


def folded(body: bytes, length: int = 65_536) -> Markup:
    """Indent a body that is JSON, with a fold for each inner object and list.

    Its numbers stay as they are. The inner folds of a long body are closed.

    Args:
        body: Any bytes.
        length: The most bytes to show.
    """
    indented = _indented(body)
    text = _text_of(body, indented, length)
    if indented is None:
        return escape(text)
    lines, depth, html = text.split("\n"), 0, list[str]()
    for line in lines:
        inner = len(line) - len(line.lstrip())
        while depth and inner <= 2 * depth:
            html.append("</details>")
            depth -= 1
        is_fold = line.endswith(("{", "[")) and inner == 2 * (depth + 1)
        if is_fold and depth < _MAX_FOLDS and len(html) < _MAX_PARTS:
            is_open = len(lines) <= _LONG or not depth
            html.append(
                f"<details{' open' * is_open}><summary>{escape(line)}</summary>"
            )
            depth += 1
        else:
            html.append(f"{escape(line)}\n")
    return Markup("".join(html + ["</details>"] * depth))  # noqa: S704 -- each line is escaped


def coded(text: str) -> Markup:
    """Return text whose parts between backticks are code."""
    return Markup(CODE.sub(r"<code>\g<code></code>", str(escape(text))))  # noqa: S704 -- the text is escaped


def _text_of(body: bytes, indented: bytes | None, length: int) -> str:
    text = body if indented is None else indented
    start = visible(text[:length].decode("utf-8", errors="replace"))
    return f"{start}… ({len(body):,} bytes)" if text[length:] else start


def _indented(body: bytes) -> bytes | None:
    """Indent JSON. None for other bodies, and for those that take time or memory."""
    if len(body) > _MAX_BODY:
        return None
    brackets = body.translate(None, delete=_NO_BRACKETS)
    depths = accumulate(1 if bracket in b"[{" else -1 for bracket in brackets)
    if max(depths, default=0) * len(body) > _MAX_INDENTED:
        return None
    try:
        return msgspec.json.format(body, indent=2)
    except (msgspec.DecodeError, RecursionError):
        return None


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
