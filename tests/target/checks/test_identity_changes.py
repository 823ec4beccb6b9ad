"""Names, sources, keys and ledgers that change must not send or hide anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.support.commands import signals
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import a_record, a_schema, a_state

if TYPE_CHECKING:
    from stairoids_sandbox import Sandbox
    from tests.support.singer_io import Message, Run, TargetUnderTest

ONE_NAME = {"stream": "*", "name": "n", "type": "joined"}


def people(
    stream: str, name: str = "ann", first: int = 0, count: int = 5, **fields: Any
) -> list[Message]:
    """Return a stream's input: SCHEMA, one record per person, STATE."""
    rows = [
        a_record(n, stream, **{"email": f"{name}{n}@example.com", **fields})
        for n in range(first, first + count)
    ]
    return [a_schema(stream, **dict.fromkeys(fields, "string")), *rows, a_state()]


def rename(target: TargetUnderTest, *words: str) -> None:
    done = signals(target, "ledger", "rename", *words)
    assert done.returncode == 0, done.stderr


# Names of streams


@pytest.mark.slow
@on_both_connectors
@pytest.mark.parametrize("send", ["once", "on_change", "always"])
def test_new_stream_that_takes_the_old_name_of_another_is_sent(
    target: TargetUnderTest, send: str
) -> None:
    target.config["signals"] = [ONE_NAME | {"send": send}]
    target.run(*people("customers"))
    rename(target, "customers", "customers_old")
    assert target.run(*people("customers_old")).outcomes == {"duplicate": 5}

    dry = target.run(*people("customers", "bob"), dry_run=True)
    first, second = (target.run(*people("customers", "bob")) for _ in range(2))
    rename(target, "customers", "clients")
    renamed = target.run(*people("clients", "bob"))
    third = target.run(*people("customers", "cid"))

    assert dry.outcomes == {"would_send": 5}
    assert (first.exit_code, first.outcomes) == (0, {"accepted": 5})
    assert second.outcomes == renamed.outcomes == {"duplicate": 5}
    assert third.outcomes == {"accepted": 5}
    assert target.run(*people("customers_old")).outcomes == {"duplicate": 5}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"type": "trials"}, {"type": "trials"}),
        ({"name": "trials"}, {"name": "trials"}),
        ({}, {}),
        ({}, {"type": "trials"}),
    ],
)
def test_rename_renames_a_mapping_only_if_the_config_does_not_keep_its_name(
    target: TargetUnderTest, before: Message, after: Message
) -> None:
    target.run(*people("trials"), signals=[{"stream": "trials", **before}])
    target.config["signals"] = [{"stream": "public-trials", **after}]
    stopped = target.run(*people("public-trials"))

    rename(target, "trials", "public-trials")
    run = target.run(*people("public-trials"))

    assert "ledger rename trials public-trials" in stopped.error
    assert (run.exit_code, run.outcomes) == (0, {"duplicate": 5})


# Sources


def test_rename_of_a_source_leaves_the_sources_of_other_mappings(
    target: TargetUnderTest,
) -> None:
    def run(first: str, second: str, plan: str) -> Run:
        items = [
            {"stream": "c", "name": source, "source": source}
            for source in (first, second)
        ]
        items[0]["name"], items[1]["name"] = "one", "two"
        return target.run(*people("c", plan=plan), signals=items)

    run("s1", "s2", "a")
    stopped = run("s1", "s2bb", "b")
    assert "ledger rename c --source s2 s2bb" in stopped.error

    rename(target, "c", "--source", "s2", "s2bb")
    wrong = signals(target, "ledger", "rename", "c", "--source", "s2", "s2bb")

    assert run("s1", "s2bb", "b").outcomes == {"accepted": 10}
    assert wrong.stderr.splitlines()[-1].endswith("Stream `c` has no source `s2`.")


# The ledger against Stairoids


def test_other_host_name_of_the_same_stairoids_holds_the_source_back(
    sandbox: Sandbox, target: TargetUnderTest
) -> None:
    target.run(*people("trials"), first_run="guard")
    other = sandbox.url.replace("127.0.0.1", "localhost")

    run = target.run(*people("trials"), first_run="guard", api_url=other)

    assert (run.exit_code, run.outcomes) == (1, {"pending": 5})
    assert "source `singer` that the ledger does not know" in run.error
    assert len(sandbox.signals) == 5


def test_other_namespace_of_the_same_stairoids_holds_nothing_back(
    target: TargetUnderTest,
) -> None:
    for name in ("eu", "us"):
        run = target.run(*people("trials", name), first_run="guard", namespace=name)
        assert (run.exit_code, run.outcomes) == (0, {"accepted": 5})
