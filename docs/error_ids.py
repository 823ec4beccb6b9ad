"""Gives an id to each message in troubleshooting.md. `make docs` writes them.

The programs print the id at the end of an error: see stairoids_common/error_ids.py.
"""

from __future__ import annotations

import json
import re
from itertools import count

_HEAD = re.compile(r"\| (?:id \| )?(message|reason) \|")
_ROW = re.compile(r"\| (?:<a id=\"e(\d+)\"></a>E\d+ \| )?((.*?) \| .*)")
_MIN_TEXT = 10  # characters of a message without the parts that differ


def numbered(page: str) -> tuple[str, str]:
    """Return the page with an id in each row, and the messages with their ids as JSON.

    A row keeps its id. A new row, or the second of two rows with one id, gets the next
    number.

    Raises:
        LookupError: A message has so few words that other errors would get its id.
    """
    lines: list[str] = []
    messages: dict[str, str] = {}
    seen = set[int]()
    known = re.findall(r"^\| <a id=\"e(\d+)\"", page, re.MULTILINE)
    numbers = count(max(map(int, known), default=0) + 1)
    kind = None
    for line in page.split("\n"):
        head, row = _HEAD.match(line), _ROW.match(line)
        if head:
            kind = head[1]
            lines.append(line if "| id |" in line else f"| id {line}")
        elif kind and line.startswith("| ---"):
            lines.append("| --- | --- | --- | --- |")
        elif kind and row:
            number = int(row[1] or 0)
            number = number if number and number not in seen else next(numbers)
            seen.add(number)
            lines.append(f'| <a id="e{number:03}"></a>E{number:03} | {row[2]}')
            if kind == "message":
                texts = row[3].replace("\\|", "|").split("; …: ")
                shortest = min(texts, key=_size_of)
                if _size_of(shortest) < _MIN_TEXT:
                    msg = f"Add words to the message: {shortest}"
                    raise LookupError(msg)
                messages = dict.fromkeys(texts, f"E{number:03}") | messages
        else:
            kind = None
            lines.append(line)
    ids = json.dumps(messages, ensure_ascii=False, indent=1)
    return "\n".join(lines), f"{ids}\n"


def _size_of(message: str) -> int:
    return len(re.sub("[…`]", "", message))
