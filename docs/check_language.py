"""Checks the English of code and pages against the project's rules.

    python docs/check_language.py [PATH ...]           list each problem; exit 1 if any
    python docs/check_language.py --score [PATH ...]   headless clauses per 1,000 words

Without a PATH, every Python, HTML and Markdown file of the repository is checked, but
not code blocks, headings and the changelog. `ALLOWED` lists the right uses of words
that are otherwise wrong.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parent.parent
MAX_WORDS = 25

# Whole words that are never right here. "Recommend" and "newsletter" are other words.
BANNED = re.compile(
    r"\b(verdicts?|rulings?|settlements?|surges?|restraints?|rehears(?:als?|e[sd]?|ing)"
    r"|watermarks?|candidates?|mend(?:s|ed|ing)?|anew|letters?)\b",
    re.IGNORECASE,
)
# A clause whose subject or object is missing: "whoever reads it", "what is not".
HEADLESS = re.compile(
    r"\b(what|whatever|whoever|whomever|nobody)\b|^(?:who|whom)\b", re.IGNORECASE
)
# Phrases that the two rules above do not look into.
ALLOWED = re.compile(
    r"\bdead[ _-]?letters?\b|\bDeadLetters?"
    r"|\ballow[_ ]surge\b"  # a setting
    r"|\b(?:lower-case|upper-case|capital|small|ascii|of) letters\b"  # the alphabet
    r"|\bletters (?:and|or) (?:digits|numbers)\b|\bletters, digits\b"
    r"|\bwhat to do\b"
    r"|\bnobody@",  # an email address
    re.IGNORECASE,
)
# The first two quote the rules.
_EXEMPT = {"check_language.py", "test_check_language.py"}
_SUFFIXES = {".py", ".html", ".md"}
_END = re.compile(r"(?<=[.!?])[)\"'`*]*\s+(?=[\W_]*[A-Z0-9])")
_ABBREVIATION = re.compile(r"\b(?:e\.g|i\.e|etc|vs|Dr|Mr|Ms)\.$")
_BREAK = re.compile(
    r"\n[ \t]*\n|\n[ \t]*(?:[-*] |\d+\. |:)|:[ \t]*\n"
    r"|\n(?=[ \t]*[\w*.|<>\[\]-]+(?: \([^)\n]*\))?: \S)"  # `name: …` below Args
    r"|\n(?=[^\n]*\S {3,}\S)"  # a line of a table
)
_WORD = re.compile(r"[^\W\d_]|\d")
_CODE = re.compile(
    r"``[^`]*``|`[^`]*`|[^\s`]*://[^\s`]*\w|\{\{.*?\}\}|\{%.*?%\}", re.DOTALL
)
_PRAGMA = re.compile(r"^(?:!|type: ignore\S*|noqa(?:: [A-Z0-9, ]+)?|pragma: .*)\s*-*")
_DATA = re.compile(
    r"\s*(?:[<{\[]|#+ |import |(?:SELECT|INSERT|UPDATE|DELETE|CREATE|WITH|PRAGMA)\b)"
    r"|.*\n\s*[{<|]"
)
_INLINE_TAG = re.compile(r"</?(?:a|abbr|b|code|em|i|span|strong|time|wbr)\b[^>]*>")
_HTML_SKIPPED = re.compile(
    r"<(script|style)\b.*?</\1>|\{\{.*?\}\}|\{%.*?%\}|<!--|-->|\{#|#\}", re.DOTALL
)
_HTML_TEXT = re.compile(r"[^<>]+")
_MD_SKIPPED = re.compile(
    r"<!--.*?-->|^ *```.*?^ *```|^#.*?$|^\|[ :|-]+$|\]\([^)\s]*\)",
    re.DOTALL | re.MULTILINE,
)
_MD_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of prose, with the line it begins at.

    Attributes:
        kind: docstring, comment, message, page, name or test.
    """

    line: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Problem:
    """A sentence or a name that breaks a rule."""

    line: int
    rule: str
    text: str


def texts_of(path: Path, source: str) -> list[Text]:
    """Return the prose of a Python, HTML or Markdown file, sorted by line."""
    if path.suffix == ".html":
        return list(_page(source))
    if path.suffix == ".md":
        return list(_document(source))
    tree = ast.parse(source)
    found = [*_strings(tree), *_comments(source), *_names(tree)]
    found.append(Text(1, "name", path.stem))
    return sorted(found, key=lambda text: text.line)


def problems_of(path: Path, source: str) -> list[Problem]:
    """Return each sentence and each name of a file that breaks a rule."""
    found = []
    is_test = "tests" in path.parts
    for text in texts_of(path, source):
        is_sentence = text.kind not in {"name", "test"}
        for line, sentence in _sentences(text) if is_sentence else [_spelt(text)]:
            shown = " ".join(sentence.split())
            plain = ALLOWED.sub("…", shown)
            found += [
                Problem(line, f'never "{match[0]}"', shown)
                for match in BANNED.finditer(plain)
            ]
            if text.kind != "name" and _headless(plain):
                found.append(Problem(line, "headless clause", shown))
            # The strings of a test are data and expectations.
            if not is_sentence or (is_test and text.kind == "message"):
                continue
            words = _count(shown)
            if words > MAX_WORDS:
                found.append(Problem(line, f"{words} words in a sentence", shown))
    return list(dict.fromkeys(found))


def score_of(path: Path, source: str) -> Counter[str]:
    """Count a file's docstrings: its `words` and its `headless` clauses."""
    score: Counter[str] = Counter()
    for text in texts_of(path, source):
        if text.kind == "docstring":
            for _, sentence in _sentences(text):
                score["words"] += _count(sentence)
                score["headless"] += len(_headless(" ".join(sentence.split())))
    return score


def files(paths: Sequence[str]) -> list[Path]:
    """Return the files with prose of the repository below some paths.

    A path that is a file is returned as it is, also if it is not in the repository.
    """
    single = {Path(path) for path in paths if Path(path).is_file()}
    folders = [str(Path(path).resolve()) for path in paths if Path(path) not in single]
    if not paths:
        folders = [str(ROOT)]
    listed = ""
    if folders:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "-co", "--exclude-standard", "--", *folders],  # noqa: S607 - git is found by its name
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    found = {Path(name) for name in listed.split("\0") if name}
    found = {path for path in found if (ROOT / path).is_file()} | single
    return sorted(path for path in found if path.suffix in _SUFFIXES)


def _strings(tree: ast.Module) -> Iterator[Text]:
    """Yield docstrings, and the other strings of two or more words."""
    docstrings = set()
    inside = set()
    for node in ast.walk(tree):
        if isinstance(
            node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        ) and ast.get_docstring(node, clean=False):
            docstrings.add(id(node.body[0].value))  # type: ignore[attr-defined]  # get_docstring found it there
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in node.values}
            text = "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…"
                for part in node.values
            )
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in inside
        ):
            text = node.value
        else:
            continue
        if id(node) in docstrings:
            yield Text(node.lineno, "docstring", text)
        elif _count(text) > 1 and not _DATA.match(text):
            yield Text(node.lineno, "message", text)


def _comments(source: str) -> Iterator[Text]:
    """Yield comments; those on lines of their own are joined to blocks."""
    block: list[str] = []
    began = column = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        line, start = token.start
        text = _PRAGMA.sub("", token.string.lstrip("#: ").strip())
        own = not token.line[:start].strip()
        if own and block and (line, start) == (began + len(block), column):
            block.append(text)
            continue
        if block:
            yield Text(began, "comment", "\n".join(block))
        block, began, column = [text], line, start if own else -1
    if block:
        yield Text(began, "comment", "\n".join(block))


def _names(tree: ast.Module) -> Iterator[Text]:
    """Yield the names that a module defines, without those that it imports."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                kind = "test" if name.startswith("test_") else "name"
                yield Text(node.lineno, kind, name)
            case ast.ClassDef(name=name):
                yield Text(node.lineno, "name", name)
            case ast.arg(arg=name):
                yield Text(node.lineno, "name", name)
            case (
                ast.Name(id=name, ctx=ast.Store())
                | ast.Attribute(attr=name, ctx=ast.Store())
            ):
                yield Text(node.lineno, "name", name)


def _page(source: str) -> Iterator[Text]:
    """Yield the texts of a template; a tag inside a sentence does not end it."""

    def blank(match: re.Match[str]) -> str:
        return "…" + "\n" * match[0].count("\n")

    source = _INLINE_TAG.sub(" ", _HTML_SKIPPED.sub(blank, source))
    outside = re.sub(r"<[^>]*>", lambda match: f"<{blank(match)}>", source)
    for match in _HTML_TEXT.finditer(outside):
        text = match[0].strip()
        if _WORD.search(text):
            line = outside.count("\n", 0, match.start() + match[0].index(text)) + 1
            yield Text(line, "page", text)


def _document(source: str) -> Iterator[Text]:
    """Yield the cells of each table, and the rest of a document as one text."""
    source = _MD_SKIPPED.sub(lambda match: "\n" * match[0].count("\n"), source)
    lines = source.splitlines()
    for number, line in enumerate(lines):
        if line.lstrip().startswith("|"):
            cells = (cell.strip() for cell in _MD_CELL.split(line))
            yield from (Text(number + 1, "page", cell) for cell in cells if cell)
            lines[number] = ""
    yield Text(1, "page", "\n".join(lines))


def _sentences(text: Text) -> Iterator[tuple[int, str]]:
    """Yield each sentence with its line; a blank line or a list's item ends one."""
    start = 0
    prose = _CODE.sub(lambda match: _same_length(match[0]), text.text)
    breaks = [(match.start(), match.end()) for match in _BREAK.finditer(prose)]
    for end, following in [*breaks, (len(prose), len(prose))]:
        at = start
        for match in _END.finditer(prose, start, end):
            if not _ABBREVIATION.search(prose[at : match.start()]):
                yield from _sentence(text, at, match.start())
                at = match.end()
        yield from _sentence(text, at, end)
        start = following


def _sentence(text: Text, start: int, end: int) -> Iterator[tuple[int, str]]:
    part = text.text[start:end]
    if _WORD.search(part) and not part.lstrip().startswith(">>>"):
        lead = len(part) - len(part.lstrip())
        line = text.line + text.text.count("\n", 0, start + lead)
        yield line, part.strip()


def _same_length(code: str) -> str:
    """Replace code, which may hold full stops and colons, by capitals."""
    return re.sub(r"\S", "X", code)


def _spelt(text: Text) -> tuple[int, str]:
    """Return a name as words: `DeadLetter_ids` is "Dead Letter ids"."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|_+", " ", text.text)
    return text.line, words.strip()


def _headless(sentence: str) -> list[str]:
    """Return the words that make a sentence headless; a question has none."""
    prose = ALLOWED.sub("…", _CODE.sub("…", sentence))
    return [] if prose.endswith("?") else [m[0] for m in HEADLESS.finditer(prose)]


def _count(sentence: str) -> int:
    words = _CODE.sub(" code ", sentence).split()
    return sum(1 for word in words if _WORD.search(word))


def _print_scores(paths: Sequence[Path]) -> None:
    scores: dict[str, Counter[str]] = {}
    for path in paths:
        score = score_of(path, (ROOT / path).read_text(encoding="utf-8"))
        for name in (path.parts[0], "all"):
            scores.setdefault(name, Counter()).update(score)
    for name, score in sorted(scores.items()):
        if score["words"]:
            rate = 1000 * score["headless"] / score["words"]
            print(f"{rate:6.1f}  {name} ({score['words']:,} words)")


def main(argv: Sequence[str] | None = None) -> int:
    """Check the files named on the command line and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("paths", nargs="*", metavar="PATH")
    parser.add_argument(
        "--score",
        action="store_true",
        help="print headless clauses per 1,000 words of docstring instead",
    )
    arguments = parser.parse_args(argv)
    paths = files(arguments.paths)
    if arguments.score:
        _print_scores(paths)
        return 0
    found = 0
    for path in paths:
        if path.name in _EXEMPT:
            continue
        source = (ROOT / path).read_text(encoding="utf-8")
        for problem in problems_of(path, source):
            found += 1
            print(f"{path}:{problem.line}: {problem.rule}: {problem.text}")
    if found:
        print(f"{found} problems in {len(paths)} files", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
