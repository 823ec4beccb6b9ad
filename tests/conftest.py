"""Fixtures for all tests: logging as it was, and a browser."""

from __future__ import annotations

import gc
import logging
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import Connection, Engine, event

from tests.support import forks
from tests.support.browser import a_browser, chromium
from tests.support.postgres import a_server

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser, Page
    from sqlalchemy import Dialect
    from xdist.workermanage import WorkerController


FAST = (
    "pages/test_templating.py",
    "sandbox/faults",
    "sandbox/state",
    "tap/forwarding/test_decision.py",
    "tap/forwarding/test_lanes.py",
    "tap/reading/test_payload_schemas.py",
    "tap/test_event.py",
    "tap/test_signature.py",
    "target/api/test_rate_limiter.py",
    "target/api/test_retry.py",
    "target/dedup",
    "target/mapping",
    "target/sending/test_checkpoint.py",
    "target/sending/test_queue.py",
    "target/sending/test_response_decision.py",
)
#: The modules whose slow tests take longest. They start first, so that no worker is
#: idle at the end while another one has a long module.
LONG = (
    "docs/test_meltano_page.py",
    "target/checks/test_each_check.py",
    "target/sending/test_recovery.py",
    "airbyte/test_pyairbyte.py",
    "pages/test_accessibility.py",
    "target/sending/test_identity_histories.py",
    "target/checks/test_stream_checks.py",
    "docs/test_meltano.py",
    "docs/test_site.py",
    "docs/test_demo.py",
    "target/test_shell.py",
    "sandbox/ui/test_browser.py",
    "tap/receiver/test_kill.py",
    "target/sending/test_model.py",
    "docs/test_readme.py",
    "tap/test_targets.py",
    "tap/receiver/test_browser.py",
    "docs/test_docs_run.py",
    "target/sending/test_outages.py",
    "tap/receiver/test_recovery.py",
    "docs/test_packaging.py",
    "docs/test_guides.py",
    "target/dedup/test_mutations.py",
    "target/cli/test_lost_ledger.py",
    "target/sending/test_untrusted_responses.py",
    "tap/forwarding/test_process.py",
    "tap/forwarding/test_kill.py",
    "target/sync_log/test_warehouse.py",
    "target/sending/test_identity.py",
    "target/test_failures.py",
    "target/sending/test_crash.py",
    "target/ledger/test_postgres.py",
    "target/test_fuzz.py",
    "sandbox/ui/test_lists.py",
    "target/checks/test_printed_commands.py",
    "target/api/test_rate_limiter.py",
    "pages/test_goals.py",
    "target/mapping/test_loader_columns.py",
    "docs/test_recipes.py",
    "target/sending/test_claims.py",
    "tap/receiver/test_hostile.py",
)
PACKAGES = ("target_stairoids", "tap_stairoids_webhooks", "stairoids_airbyte")
#: Linux keeps its files in memory. Commits to a database are much faster there.
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - only the parent of pytest's own folders
ROOM = 2 * 1024**3  # bytes; a run needs 300 MB


# No test may fail because the machine is slow. A test module that is imported reads it.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_configure_node(node: WorkerController) -> None:
    """Let the programs of all workers be forks of one process."""
    node.workerinput["forks"] = forks.of_programs().path


def pytest_unconfigure() -> None:
    forks.end_programs()


def pytest_configure(config: pytest.Config) -> None:
    """Put the temporary folders of tests into memory where programs may run there."""
    if hasattr(config, "workerinput"):
        forks.share(config.workerinput["forks"])
    if (
        os.access(IN_MEMORY, os.W_OK)
        and shutil.disk_usage(IN_MEMORY).free > ROOM
        and not os.statvfs(IN_MEMORY).f_flag & os.ST_NOEXEC
    ):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(IN_MEMORY))


def pytest_ignore_collect(
    collection_path: Path, config: pytest.Config
) -> Literal[True] | None:
    """Import no module all of whose tests `-m slow` or `-m "not slow"` leaves out."""
    chosen = config.getoption("markexpr")
    if "slow" not in chosen or not collection_path.match("test_*.py"):
        return None
    if chosen.startswith("slow"):
        return None if _may_be_slow(collection_path) else True
    text = collection_path.read_text(encoding="utf-8")
    are_slow = re.search(r"^pytestmark = \[?pytest\.mark\.slow\b", text, re.MULTILINE)
    return True if are_slow and chosen.endswith("not slow") else None


def _may_be_slow(module: Path) -> bool:
    text = module.read_text(encoding="utf-8")
    return (
        re.search(r"slow|on_both_connectors|postgres|\bhome(_url)?\b", text) is not None
    )


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Let each worker begin with other modules of a folder.

    In a fresh clone, pytest compiles each module with its asserts, which takes most of
    the time of its import. So a worker finds most modules compiled by another one.
    """
    report = yield
    worker = getattr(collector.config, "workerinput", None)
    if worker and isinstance(collector, pytest.Dir):
        number = int(worker["workerid"].removeprefix("gw"))
        first = len(report.result) * number // worker["workercount"]
        report.result = [*report.result[first:], *report.result[:first]]
    return report


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Let long modules start first, and mark fast tests and those with PostgreSQL.

    Without other workers, the order stays that of the command line.
    """
    folder = Path(__file__).parent
    if hasattr(config, "workerinput"):
        ranks = {folder / name: rank for rank, name in enumerate(LONG)}
        items.sort(key=lambda item: (ranks.get(item.path, len(ranks)), item.path))
    fast = {folder / name for name in FAST}
    for item in items:
        if not fast.isdisjoint((item.path, *item.path.parents)):
            item.add_marker(pytest.mark.fast)
        if "postgres" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    for module in {item.path for item in items if item.get_closest_marker("slow")}:
        if not _may_be_slow(module):
            raise pytest.UsageError(f"{module}: `-m slow` would leave out its tests")


def pytest_collection_finish() -> None:
    """Leave modules and tests out of garbage collections, which are rarer from here."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Undo changes of logging by the programs that a test runs in process.

    The SDK adds a handler each time `Plugin.cli` is read. Without this fixture, a log
    line would be printed once for each test before it.
    """
    root = logging.getLogger()
    names = {name.replace("_", "-") for name in PACKAGES} | set(PACKAGES)
    loggers = [root, *map(logging.getLogger, names)]
    levels = [logger.level for logger in loggers]
    handlers = list(root.handlers)
    filters = [list(handler.filters) for handler in handlers]
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    for handler, its_filters in zip(handlers, filters, strict=True):
        handler.filters[:] = its_filters
    for logger, level in zip(loggers, levels, strict=True):
        if logger.level != level:
            logger.setLevel(level)  # it empties the caches of all loggers
    for handler in set(root.handlers) - set(handlers):
        if type(handler).__module__ != "_pytest.logging":
            root.removeHandler(handler)


@pytest.fixture(scope="session", autouse=True)
def _statements_compiled_once() -> Iterator[None]:
    """Let all SQLite databases of the test process share their compiled statements.

    A program opens one database. The tests open thousands, and most of the time of a
    short run would be spent on the text of the same statements.
    """
    dialects: list[Dialect] = []
    cache: dict[Any, Any] = {}

    def share(connection: Connection) -> None:
        if connection.dialect.name == "sqlite":
            dialects[:] = dialects or [connection.dialect]
            connection.dialect = dialects[0]  # it is a part of the cache's keys
            connection.execution_options(compiled_cache=cache)

    event.listen(Engine, "engine_connect", share)
    yield
    event.remove(Engine, "engine_connect", share)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server for the test process."""
    with a_server() as url:
        yield url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium()
    if path is None:
        pytest.skip("no Chromium here: apt-get install chromium, or set CHROMIUM")
    with a_browser(path) as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test if its script fails, or a policy is broken."""
    tab = browser.new_page(viewport={"width": 1440, "height": 900})
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    tab.on(
        "console",
        lambda message: (
            wrong.append(message.text) if "Security Policy" in message.text else None
        ),
    )
    tab.set_default_timeout(10_000)
    yield tab
    tab.close()
    assert wrong == []
