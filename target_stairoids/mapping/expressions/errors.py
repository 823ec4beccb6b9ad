"""Errors in templates: a sentence, and the line of the mistake."""

from __future__ import annotations

import re
from decimal import InvalidOperation, Overflow

from jinja2 import TemplateSyntaxError, UndefinedError
from jinja2.exceptions import SecurityError

from target_stairoids.exceptions import InvalidSignalError
from target_stairoids.mapping.expressions.jinja_env import TooLongError


class TemplateError(Exception):
    """A template is wrong in a line."""

    def __init__(self, text: str, problem: str, number: int = 1) -> None:
        line = re.split("\r\n|\r|\n", text)[number - 1]
        where = f" (line {number})" if "\n" in text.strip() else ""
        super().__init__(f"{problem}{where}\n    {line}")


def syntax_error(error: TemplateSyntaxError, text: str) -> TemplateError:
    """Return the error for a syntax error of Jinja."""
    message = re.sub(r" at \d+$|\.$", "", str(error.message))
    problem = message[:1].lower() + message[1:]
    if re.search(r"expected token 'end of .*', got '\w|unexpected char", problem):
        problem += '; write a name with a space or a mark as `record["First name"]`'
    return TemplateError(text, problem, error.lineno)


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
