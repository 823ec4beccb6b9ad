"""Mappings and streams: globs, names, and typos in either."""

from __future__ import annotations

from typing import Any

import pytest

from target_stairoids.exceptions import ConfigError
from target_stairoids.mapping.config import (
    check_any_match,
    check_globs,
    check_spelling,
    mappings_for,
    unused_globs,
)
from target_stairoids.mapping.signals_setting import MappingItem
from tests.support.mapping_builders import (
    a_map,
    a_shape,
    items_of,
)


@pytest.mark.parametrize(
    ("globs", "types"),
    [
        (["public-trials"], ["0"]),
        (["public-trial?"], ["0"]),
        (["public-[st]rials"], ["0"]),
        (["other", "*"], ["1"]),
        (["public-*", "*"], ["0"]),
        (["public-*", "*", "public-*"], ["0", "2"]),
        (["Public-*", "*"], ["1"]),
        (["public"], ["public-trials"]),
        ([], ["public-trials"]),
    ],
)
def test_first_matching_glob_applies_with_all_its_items(
    globs: list[str], types: list[str]
) -> None:
    items = [MappingItem(stream=g, type=str(i)) for i, g in enumerate(globs)]

    found = mappings_for(a_shape(), items, "tests")

    assert [
        compiled_mapping.signal_from({}).type for compiled_mapping in found
    ] == types


@pytest.mark.parametrize(
    ("item", "name"),
    [
        ({}, "public-trials"),
        ({"type": "trial"}, "trial"),
        ({"type": "trial", "name": "mine"}, "mine"),
        ({"type": None}, "public-trials"),
    ],
)
def test_name_of_a_mapping_is_its_type_by_default(
    item: dict[str, Any], name: str
) -> None:
    assert a_map(**item).name == name


def test_two_mappings_of_one_stream_need_two_names() -> None:
    items = [MappingItem(stream="*", type="trial")] * 2

    with pytest.raises(ConfigError, match="two mappings are named `trial`"):
        mappings_for(a_shape(), items, "tests")


@pytest.mark.parametrize(
    ("globs", "hidden"),
    [
        (["*", "public-trials"], "public-trials"),
        (["crm-*", "crm-c*"], "crm-c*"),
        (["crm-?", "crm-a"], "crm-a"),
        (["public-trials", "*"], None),
        (["crm-?", "crm-*"], None),
        (["a*", "*a"], None),
        (["*", "*"], None),
    ],
)
def test_item_hidden_by_an_earlier_glob_is_refused(
    globs: list[str], hidden: str | None
) -> None:
    items = [MappingItem(stream=glob) for glob in globs]

    if hidden is None:
        check_globs(items)
    else:
        with pytest.raises(ConfigError, match="is never used") as refused:
            check_globs(items)
        assert f"stream `{hidden}`" in str(refused.value)


def test_glob_that_matched_no_stream_is_reported() -> None:
    items = items_of({"stream": "public-trails"}, {"stream": "crm-*"})

    assert unused_globs(items, ["public-trials", "crm-contacts"]) == [
        (
            "No stream matched the mapping of `public-trails` in `signals`; "
            "did you mean `public-trials`?"
        )
    ]


@pytest.mark.parametrize(
    ("item", "stream"),
    [
        ("trails", "trials"),
        ("Trials", "trials"),
        ("trial", "trials"),
        ("public-trails", "public-trials"),
        ("public.trials", "public-trials"),
        ("trials", "public-trials"),
        ("public-trials", "trials"),
    ],
)
def test_stream_with_a_name_near_that_of_an_unused_item_is_refused(
    item: str, stream: str
) -> None:
    with pytest.raises(ConfigError, match="so nothing was sent") as refused:
        check_spelling(stream, [MappingItem(stream=item)], [])

    assert f"`{item}`" in str(refused.value)
    assert f"`{stream}`" in str(refused.value)
    assert "`type: null`" in str(refused.value)


def test_stream_is_refused_as_long_as_no_item_has_matched() -> None:
    items = items_of({"stream": "people"}, {"stream": "deals", "type": None})

    with pytest.raises(ConfigError, match="so nothing was sent") as refused:
        check_any_match("contacts", items, ["tickets"])

    assert "no stream so far matched `people`" in str(refused.value)
    check_any_match("contacts", items, ["people"])
    check_any_match("contacts", items[1:], [])  # `type: null` alone matches no stream
    check_any_match("contacts", [], [])


@pytest.mark.parametrize(
    ("items", "stream", "seen"),
    [
        (["public-trials"], "public-users", ["public-trials"]),
        (["public-deals", "trials"], "public-leads", ["trials"]),
        (["trials"], "tickets", ["trials"]),
        (["trials"], "trials_old", ["trials"]),
        (["trials"], "trails", ["trials"]),
        (["trail*"], "trials", ["trails"]),
        (["trials", "*"], "trails", []),
        (["trials", "trails"], "trails", []),
        ([], "trails", []),
    ],
)
def test_stream_with_another_name_than_all_items_is_inferred(
    items: list[str], stream: str, seen: list[str]
) -> None:
    check_spelling(stream, [MappingItem(stream=item) for item in items], seen)
