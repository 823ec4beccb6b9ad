"""Errors in templates: a sentence, the line and a caret below the mistake."""

from __future__ import annotations

import itertools
import re
from decimal import InvalidOperation, Overflow

from jinja2 import TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError
from jinja2.parser import Parser

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.jinja_env import TooLongError, environment


class TemplateError(Exception):
    """A template is wrong at an offset of its text."""

    def __init__(self, text: str, place: int, problem: str) -> None:
        before, after = text[:place], text[place:]
        start = before.rpartition("\n")[2]
        line = start + after.partition("\n")[0]
        number = before.count("\n") + 1
        where = f" (line {number})" if "\n" in text.strip() else ""
        super().__init__(f"{problem}{where}\n    {line}\n    {' ' * len(start)}^")


def syntax_error(
    error: TemplateSyntaxError, text: str, state: str | None
) -> TemplateError:
    """Return a syntax error of Jinja with its place, of which Jinja has the line only.

    `state` is that of Jinja's lexer at the start of the text.
    """
    message = str(error.message)
    problem = re.sub(r" at \d+$", "", message[:1].lower() + message[1:]).rstrip(".")
    if re.search(r"expected token 'end of .*', got '\w|unexpected char", problem):
        problem += '; write a name with a space or a mark as `record["First name"]`'
    given = re.search(r" at (\d+)$", message)
    place = int(given[1]) if given else _place_of_error(text, state)
    return TemplateError(text, place, problem)


def _place_of_error(text: str, state: str | None) -> int:
    """Return the offset of the first token that makes the beginning wrong."""
    ends = [0]
    try:
        for _, _, token in environment().lexer.tokeniter(text, None, state=state):
            ends.append(ends[-1] + len(token))
    except TemplateSyntaxError:
        pass  # the tokens before the error are enough
    for start, end in itertools.pairwise(ends):
        if _is_wrong(text[:end], state):
            return start + len(text[start:end]) - len(text[start:end].lstrip())
    return ends[-1]


def _is_wrong(beginning: str, state: str | None) -> bool:
    """Return whether the beginning of a text is wrong, and not only incomplete."""
    try:
        if state is None:
            Parser(environment(), beginning).parse()
            return False
        parser = Parser(environment(), beginning, state=state)
        parser.parse_expression()
    except TemplateSyntaxError as error:
        message = str(error.message).lower()
        return "end of template" not in message and "tag name expected" not in message
    return not parser.stream.eos


#: The text for errors whose own message may repeat the record's values.
_PROBLEMS: dict[type[Exception], str] = {
    ZeroDivisionError: "division by zero",
    InvalidOperation: "a number cannot be computed",
    OverflowError: "a number is too large",
    Overflow: "a number is too large",
    MemoryError: "a value is too large",
    TooLongError: "the expression makes a text or a number that is too long",
    RecursionError: "a value is nested too deeply",
    SecurityError: "the expression does something that is not allowed",
    UndefinedError: "the expression uses a value that does not exist",
    ValueError: "a value has the wrong form",
}


def without_values(error: Exception) -> str:
    """Return why a template failed for a record, without the record's values."""
    kind = type(error)
    if kind is InvalidSignalError:
        return str(error)
    if kind is not TypeError:
        known = (_PROBLEMS[one] for one in kind.__mro__ if one in _PROBLEMS)
        return next(known, kind.__name__)
    problem = str(error)  # it has only the names of types
    problem = problem.replace("decimal.Decimal", "float")
    is_text = re.search("'str' and '(int|float)'|'(int|float)' and 'str'", problem)
    remedy = "; write `column | int` or `column | float` for the number in a text"
    return problem + remedy if is_text else problem
