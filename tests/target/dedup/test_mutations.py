"""Each part of the rules is necessary: without it, a test fails.

The test leaves out one condition, one statement or one argument at a time, in a copy
of the project. There it runs the tests of the rules, of identity and of the histories.
By default, each 40th part is tried. `STAIROIDS_EVERY=1` tries all, as in `make soak`.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MODULES = [
    "target_stairoids/dedup/duplicate_rules.py",
    "target_stairoids/sending/identity.py",
]
CHECK = "test_check_sets_its_stream_aside_until_its_cause_is_gone"
HISTORY = "test_history_sends_each_state_once"
GONE = "second row once, then gone, no order"
FILLED_IN = "a domain without an email gets one of a known person"
#: Tests of parts that need them, or that only late tests of the modules below need.
SINGLE = [
    (
        "cli/test_dead_letters.py",
        "test_replay_sends_dead_letters_with_the_fixed_mapping",
    ),
    (
        "cli/test_dead_letters.py",
        "test_dead_letter_of_a_mapping_with_always_is_sent_after_a_newer_state",
    ),
    (
        "cli/test_dead_letters.py",
        "test_rejected_newer_version_closes_no_dead_letter[True-None-on_change]",
    ),
    (
        "cli/test_dead_letters.py",
        "test_dead_letter_is_not_sent_after_its_row_was_excluded[None-always]",
    ),
    (
        "cli/test_dead_letters.py",
        "test_replay_sends_states_in_the_order_in_which_they_were_read",
    ),
    ("cli/test_dead_letters.py", "test_dead_letter_is_not_sent_after_a_newer_version"),
    (
        "cli/test_dead_letters.py",
        "test_export_of_a_closed_dead_letter_is_not_sent_after_a_newer_state",
    ),
    (
        "cli/test_dead_letters.py",
        "test_lost_signal_before_a_newer_state_is_not_sent_beside_another_lost_one",
    ),
    (
        "cli/test_dead_letters.py",
        "test_lost_signal_is_not_sent_after_a_newer_state_of_the_same_day[always]",
    ),
    (
        "sending/test_company_names.py",
        "test_people_who_share_the_key_of_a_company_do_not_close_its_dead_letter",
    ),
    (
        "cli/test_dead_letters.py",
        "test_dead_letter_of_a_person_without_a_key_closes",
    ),
    (
        "checks/test_stream_checks.py",
        "test_changes_of_rejected_records_are_no_bulk_change",
    ),
    (
        "checks/test_stream_checks.py",
        "test_changes_behind_known_states_count_once_a_run_was_complete",
    ),
    (
        "checks/test_stream_checks.py",
        "test_people_beside_those_of_known_keys_are_no_bulk_change",
    ),
    (
        "checks/test_stream_checks.py",
        "test_people_beside_filtered_ones_of_known_keys_are_no_bulk_change",
    ),
    (
        "checks/test_stream_checks.py",
        "test_other_people_in_two_states_are_a_bulk_change",
    ),
    (
        "checks/test_stream_checks.py",
        "test_known_people_of_shared_keys_are_counted_once",
    ),
    (
        "checks/test_each_check.py",
        f"{CHECK}[once, several other people of each key-singer]",
    ),
    ("sending/test_identity.py", "test_mapping_gains_a_property"),
    ("sending/test_identity_histories.py", f"{HISTORY}[82 {FILLED_IN}]"),
    ("sending/test_identity_histories.py", f"{HISTORY}[55 {GONE}]"),
    (
        "sending/test_identity.py",
        "test_each_record_that_shares_a_key_is_counted_once[998-once-history3-2]",
    ),
    (
        "sending/test_identity.py",
        "test_each_record_that_shares_a_key_is_counted_once[1-on_change-history15-2]",
    ),
    ("sending/test_identity.py", "test_null_counts_as_missing"),
    (
        "sending/test_identity.py",
        "test_person_before_a_remembered_one_fills_in_no_domain",
    ),
]


def identity_tests(*, with_cases: bool) -> list[str]:
    """Return the tests of identity that have several cases, or those that have none."""
    path = "tests/target/sending/test_identity.py"
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    return [
        f"{path}::{node.name}"
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and node.name.startswith("test_")
        and ("parametrize" in " ".join(map(ast.unparse, node.decorator_list)))
        == with_cases
    ]


#: The run ends at the first failure, so tests of single parts and cheap ones are first.
TESTS = [
    "tests/target/dedup/test_duplicate_rules.py",
    *(f"tests/target/{module}::{test}" for module, test in SINGLE),
    "tests/target/sending/test_company_names.py",
    f"tests/target/checks/test_each_check.py::{CHECK}",
    *identity_tests(with_cases=False),
    "tests/target/sending/test_identity_histories.py",
    *identity_tests(with_cases=True),
]


class _Without(ast.NodeTransformer):
    """Leaves out one part of a module."""

    def __init__(self, part: ast.AST) -> None:
        self._part = part

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        left = [value for value in node.values if value is not self._part]
        node.values = [self.visit(value) for value in left]
        return node if len(node.values) > 1 else node.values[0]

    def visit_Call(self, node: ast.Call) -> ast.AST:
        node.keywords = [word for word in node.keywords if word is not self._part]
        return self.generic_visit(node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        return ast.Pass() if node is self._part else super().generic_visit(node)


def parts_of(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Yield the conditions, statements and arguments of functions, with their names."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        for node in ast.walk(function):
            parts: Sequence[ast.AST] = ()
            if isinstance(node, ast.BoolOp):
                parts = node.values
            elif isinstance(node, ast.Call):
                parts = node.keywords
            elif isinstance(node, ast.If | ast.AugAssign | ast.Delete) or (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
            ):
                parts = [node]
            for part in parts:
                yield (
                    f"{function.name}: {ast.unparse(part).partition(chr(10))[0]}",
                    part,
                )


def tree_of(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_text(encoding="utf-8"))


EVERY = int(os.environ.get("STAIROIDS_EVERY", "40"))
EACH = [
    pytest.param(module, number, id=f"{Path(module).stem} {number} {name}")
    for module in MODULES
    for number, (name, _) in enumerate(parts_of(tree_of(module)))
][::EVERY]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project."""
    folder = tmp_path_factory.mktemp("project")
    for path in ROOT.iterdir():
        if path.is_dir() and (path / "__init__.py").exists():
            shutil.copytree(path, folder / path.name)
    shutil.copytree(ROOT / "tests", folder / "tests")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(("module", "number"), EACH)
def test_no_part_of_the_rules_can_be_left_out(
    project: Path, module: str, number: int
) -> None:
    tree = tree_of(module)
    part = [found for _, found in parts_of(tree)][number]
    without = ast.fix_missing_locations(_Without(part).visit(tree))
    path = project / module
    original = path.read_text(encoding="utf-8")
    path.write_text(ast.unparse(without), encoding="utf-8")
    try:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-vx", "-p", "no:cacheprovider",
             "--keep-duplicates", "-k", "not airbyte", *TESTS],
            cwd=project,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )  # fmt: skip
    finally:
        path.write_text(original, encoding="utf-8")

    assert run.returncode == 1, run.stdout
    first = re.search(r"^tests/[\w/]+\.py", run.stdout, re.MULTILINE)
    assert first is not None, run.stdout
    assert first[0] == TESTS[0]  # else each run takes a minute
