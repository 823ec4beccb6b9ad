"""Write numbers, times, names and commands for people, in UTF-8."""

from __future__ import annotations

import os
import re
import shlex
import sys
import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path

#: A part of a text between backticks, as `as_code` writes it. Its group is the content.
CODE = re.compile(
    r"(?<!`)(?P<fence>`+)(?!`)(?P<code>.+?)(?<!`)(?P=fence)(?!`)", re.DOTALL
)

# Joiners are invisible too, but emoji and several scripts need them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)


def visible(text: str) -> str:
    r"""Write invisible characters as ``\uXXXX``. Line ends and tabs stay."""
    return _INVISIBLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def one_line(text: str) -> str:
    r"""Write invisible characters and tabs visibly, and line ends as ``\n``."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def as_message(text: str) -> str:
    """Return a message in which no name of a tap looks like a line of its own.

    The lines behind the first one are indented.
    """
    return re.sub(r"\n(?=\S)", "\n    ", visible(text))


def as_code(text: str) -> str:
    """Return a text between backticks, with one more than it has in a row."""
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence, space = "`" * (longest + 1), " " if "`" in {text[:1], text[-1:]} else ""
    return f"{fence}{space}{text}{space}{fence}"


def shell_command(command: str, *names: str, options: Sequence[str] = ()) -> str:
    """Return a command as code, ready to be copied into a shell.

    If a name begins with `-`, `--` stands before the names.
    """
    has_dash = any(name.startswith("-") for name in names)
    words = [*options, "--", *names] if has_dash else [*names, *options]
    return as_code(f"{command} {shlex.join(words)}" if words else command)


def write_utf8() -> None:
    """Let stdout and stderr be UTF-8 in every locale, and wait for a slow reader.

    A stream that the parent closed becomes the null device.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = Path(os.devnull).open(mode, encoding="utf-8")  # noqa: SIM115 -- open until the end
            setattr(sys, name, null)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
            with suppress(OSError):  # a test's stream has no descriptor
                os.set_blocking(stream.fileno(), True)


def spellings_of(email: str) -> list[str]:
    """Return an address in lower case, with its domain in Unicode and as in DNS."""
    import idna  # noqa: PLC0415 - only an erasure needs it

    address = unicodedata.normalize("NFKC", email.strip()).lower()
    local, at, domain = address.rpartition("@")
    found = [address]
    with suppress(idna.IDNAError, UnicodeError):
        in_dns = idna.encode(domain, uts46=True).decode()
        found += [local + at + form for form in (in_dns, idna.decode(in_dns))]
    return list(dict.fromkeys(found))


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return `1 signal` or `1,000 signals`; a verb that changes belongs to the noun."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def duration(seconds: float) -> str:
    """Return `5 s`, `3 min 54 s`, `1 h 40 min` or `2 d 3 h`."""
    rest = round(seconds)
    for unit, size, smaller, part in (
        ("d", 86_400, "h", 3_600),
        ("h", 3_600, "min", 60),
        ("min", 60, "s", 1),
    ):
        if rest >= size:
            return f"{rest // size} {unit} {rest % size // part} {smaller}"
    return f"{rest} s"
