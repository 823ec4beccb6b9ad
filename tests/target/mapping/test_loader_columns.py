"""Columns that Airbyte and other loaders write at every sync, and deleted rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from target_stairoids.mapping.schema import is_loaders
from tests.support.connectors import on_both_connectors
from tests.support.singer_io import Message, TargetUnderTest, a_record, a_schema

if TYPE_CHECKING:
    from collections.abc import Iterable

    from stairoids_sandbox import Sandbox

WRITTEN = (
    "_airbyte_raw_id", "_airbyte_extracted_at", "_airbyte_generation_id",
    "_airbyte_users_hashid", "_AIRBYTE_LOADED_AT", "_ab_cdc_updated_at", "_ab_cdc_lsn",
    "_ab_cdc_log_file", "_ab_source_file_last_modified", "_ab_source_file_url",
    "_fivetran_synced", "_dlt_load_id", "__hevo__loaded_at",
)  # fmt: skip


def written_at(sync: int) -> Message:
    """Return the columns of loaders in a sync."""
    return dict.fromkeys(WRITTEN, f"{sync}") | {"_airbyte_meta": {"sync": sync}}


def a_schema_of(kind: str, key: Iterable[str] = ("id",)) -> Message:
    """Return a SCHEMA that lists the columns of loaders, or leaves them out."""
    listed = dict.fromkeys(WRITTEN, "string") | {"_airbyte_meta": "object"}
    message = a_schema(key=key, plan="string", **(listed if kind == "listed" else {}))
    message["schema"]["additionalProperties"] = kind == "open"
    return message


@on_both_connectors
@pytest.mark.parametrize("kind", ["listed", "not listed", "open"])
@pytest.mark.parametrize(
    "item",
    [
        {},
        {"ignore_changes": ["plan"]},
        {"skip": ["plan"]},
        {"send": "always"},
        {"send": "once"},
        {"properties": ["*", {"tier": "{{ plan }}"}]},
        {"contact": {"email": "{{ record['email'] | lower }}"}},
        {"properties": {"all": "{{ record | length }}"}},
    ],
    ids=str,
)
def test_columns_of_loaders_are_neither_content_nor_properties(
    sandbox: Sandbox, target: TargetUnderTest, kind: str, item: Message
) -> None:
    without_once = {} if item == {"send": "once"} else item  # it needs a key
    target.config["signals"] = [
        {"stream": "visits", **without_once},
        {"stream": "*", **item},
    ]
    keyless = a_schema_of(kind, ()) | {"stream": "visits"}

    for sync in (1, 2):
        run = target.run(
            a_schema_of(kind),
            a_record(1, plan="a", **written_at(sync)),
            a_record(2, plan="b", **written_at(sync)),
            keyless,
            a_record(1, "visits", plan="a", **written_at(sync)),
        )

    assert run.outcomes == {"duplicate": 3}
    assert len(sandbox.signals) == 3
    for signal in sandbox.signals:
        assert not any(name[0] == "_" for name in signal.body.get("properties", {}))


@on_both_connectors
@pytest.mark.parametrize("kind", ["listed", "open"])
@pytest.mark.parametrize(
    ("properties", "name"),
    [
        (["plan", "_ab_cdc_updated_at"], "_ab_cdc_updated_at"),
        ({"at": "{{ _ab_cdc_updated_at }}"}, "at"),
    ],
)
def test_mapping_may_name_a_column_of_loaders(
    sandbox: Sandbox,
    target: TargetUnderTest,
    kind: str,
    properties: object,
    name: str,
) -> None:
    target.config["signals"] = [{"stream": "trials", "properties": properties}]

    for sync in (1, 2):
        target.run(a_schema_of(kind), a_record(1, **written_at(sync)))

    sent = [signal.body["properties"][name] for signal in sandbox.signals]
    assert sent == ["1", "2"]


@on_both_connectors
@pytest.mark.parametrize("is_open", [False, True], ids=["listed", "open"])
def test_log_position_orders_the_states_of_a_stream_without_a_bookmark(
    sandbox: Sandbox, target: TargetUnderTest, *, is_open: bool
) -> None:
    listed: Message = {} if is_open else {"_ab_cdc_lsn": "number"}
    schema = a_schema(plan="string", **listed)
    schema["schema"]["additionalProperties"] = is_open
    target.run(schema, a_record(1, plan="new", _ab_cdc_lsn=100))

    older = target.run(schema, a_record(1, plan="old", _ab_cdc_lsn=99))
    newer = target.run(schema, a_record(1, plan="newest", _ab_cdc_lsn=101))

    assert older.outcomes == {"superseded": 1}
    assert newer.outcomes == {"accepted": 1}
    plans = [signal.body["properties"]["plan"] for signal in sandbox.signals]
    assert plans == ["new", "newest"]


@on_both_connectors
@pytest.mark.parametrize("column", ["_ab_cdc_deleted_at", "_sdc_deleted_at"])
@pytest.mark.parametrize("is_open", [False, True], ids=["listed", "open"])
@pytest.mark.parametrize("key", [["id"], []], ids=["key", "no key"])
@pytest.mark.parametrize("plan", ["a", "b"], ids=["same", "changed"])
def test_deleted_row_is_filtered(
    sandbox: Sandbox,
    target: TargetUnderTest,
    column: str,
    key: list[str],
    plan: str,
    *,
    is_open: bool,
) -> None:
    target.config["signals"] = [{"stream": "trials", "when": None}]
    schema = a_schema(key=key, plan="string", **({} if is_open else {column: "string"}))
    schema["schema"]["additionalProperties"] = is_open
    alive: Message = {"plan": "a", column: None}
    target.run(schema, a_record(1, **alive))

    deleted: Message = {"plan": plan, column: "2026-01-01T00:00:00Z"}
    run = target.run(schema, a_record(1, **deleted), a_record(2, **deleted))

    assert run.outcomes == {"filtered": 2}
    back = target.run(schema, a_record(1, **alive))
    # It returned. Without a key, a row with another plan is another one.
    is_back = bool(key) or plan == "a"
    assert back.outcomes == {"accepted" if is_back else "duplicate": 1}
    assert len(sandbox.signals) == 1 + is_back


@on_both_connectors
@pytest.mark.parametrize("column", ["_ab_cdc_deleted_at", "_sdc_deleted_at"])
@pytest.mark.parametrize("form", ["", "{{ %s }}"], ids=["column", "template"])
def test_mapping_that_reads_the_time_of_deletion_gets_deleted_rows(
    sandbox: Sandbox, target: TargetUnderTest, column: str, form: str
) -> None:
    properties = {column: form % column} if form else [column]
    target.config["signals"] = [
        {"stream": "trials", "when": None, "properties": properties}
    ]

    run = target.run(a_schema(**{column: "string"}), a_record(1, **{column: "2026"}))

    assert run.outcomes == {"accepted": 1}
    assert sandbox.signals[0].body["properties"] == {column: "2026"}


@pytest.mark.parametrize(
    "name", ["airbyte_id", "ab_cdc", "_abc", "email", "load", "last_seen_at", "_id"]
)
def test_other_columns_are_no_columns_of_loaders(name: str) -> None:
    assert not is_loaders(name)


@pytest.mark.parametrize(
    "name",
    [
        "_peerdb_synced_at", "_cq_sync_time", "_sling_loaded_at", "__source_ts_ms",
        "__op", "_line", "_row", "_PARTITIONTIME", "_batch_id", "uuid_ts",
        "dbt_updated_at", "_weld_synced_at",
    ],
)  # fmt: skip
def test_columns_of_less_common_loaders_are_known_by_name(name: str) -> None:
    assert is_loaders(name)
