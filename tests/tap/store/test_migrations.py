"""A store of an older version becomes one of this version, and loses nothing."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from tap_stairoids_webhooks.exceptions import StoreVersionError
from tap_stairoids_webhooks.store.schema import METADATA, SCHEMA_VERSION
from tap_stairoids_webhooks.store.store import EventStore
from tests.support.webhook_builders import deliveries
from tests.tap.store.old_stores import VERSION_1, VERSION_1_REST


def engine_of(url: str) -> sa.Engine:
    return sa.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))


def schema_of(url: str) -> dict[str, Any]:
    """Describe every table, so that two stores can be compared."""
    engine = engine_of(url)
    found = {}
    inspector = sa.inspect(engine)
    for table in METADATA.tables:
        columns = {
            c["name"]: (str(c["type"]), c["nullable"])
            for c in inspector.get_columns(table)
        }
        key = inspector.get_pk_constraint(table)["constrained_columns"]
        indexes = sorted(str(i["name"]) for i in inspector.get_indexes(table))
        found[table] = (columns, key, indexes)
    engine.dispose()
    return found


@pytest.fixture
def old_url(home_url: str) -> str:
    engine = engine_of(home_url)
    sqlite = engine.dialect.name == "sqlite"
    rest = VERSION_1_REST.replace("BODY", "x'7b7d'" if sqlite else "'{}'")
    script = VERSION_1[engine.dialect.name] + rest
    with engine.begin() as connection:
        for statement in script.split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    return home_url


def test_upgraded_store_keeps_its_events_and_its_identity(old_url: str) -> None:
    with EventStore.create(old_url) as store:
        (event,) = store.read_after(0, upper=9)
        store.append(deliveries(2))

        assert store.store_id == "a-store"
        assert (event.sequence, event.body, event.erased_at) == (1, b"{}", None)
        assert store.last_sequence() == 3

    with EventStore.open_to_read(old_url) as reader:
        assert reader.stats().total == 3


def test_upgraded_store_is_like_a_new_one(
    old_url: str,
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> None:
    EventStore.create(old_url).close()
    upgraded = schema_of(old_url)
    if old_url.startswith("sqlite"):
        new_url = f"sqlite:///{tmp_path_factory.mktemp('new')}/webhooks.db"
    else:
        engine = engine_of(old_url)
        METADATA.drop_all(engine)
        engine.dispose()
        new_url = request.getfixturevalue("postgres_url")

    EventStore.create(new_url).close()

    assert upgraded == schema_of(new_url)


def test_reader_does_not_upgrade_and_says_who_does(old_url: str) -> None:
    with pytest.raises(
        StoreVersionError, match=r"version 1; .*stairoids-webhooks serve"
    ):
        EventStore.open_to_read(old_url)

    assert SCHEMA_VERSION > 1
