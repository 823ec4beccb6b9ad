"""The entities that a run has read, against a plain dict."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from target_stairoids.dedup.duplicate_rules import Read
from target_stairoids.dedup.seen_entities import SeenEntities

entities = st.sampled_from(
    [first + bytes(5) + last + bytes(9) for first in (b"\0", b"\x01", b"\xff")
     for last in (b"\0", b"\x01", b"\x80", b"\xff")]
)  # fmt: skip
#: Entities that were read one at a time or together, or a question.
steps = st.tuples(
    st.sampled_from(Read),
    st.lists(entities, min_size=1, max_size=6),
)


@settings(max_examples=150)
@given(st.lists(steps, max_size=30))
def test_entities_are_noted_as_in_a_dict(taken: list[tuple[Read, list[bytes]]]) -> None:
    noted, expected = SeenEntities(), dict[bytes, Read]()
    for read, first_and_more in taken:
        first = first_and_more[0]
        if read is Read.NOT_YET:
            assert noted.read(first) is expected.get(first, Read.NOT_YET)
        elif len(first_and_more) == 1:
            noted.add(first, read)
            expected[first] = Read(read | expected.get(first, read))
        else:
            noted.add_latest(first_and_more)
            for entity in first_and_more:
                expected[entity] = Read(1 | expected.get(entity, 0))
    found = {entity: noted.read(entity) for entity in expected}

    assert found == expected


def test_hundred_thousand_entities_are_found_again() -> None:
    noted = SeenEntities()
    all_of_them = [number.to_bytes(16, "little") for number in range(200_000)]
    noted.add_latest(all_of_them[:100_000])
    noted.add(all_of_them[7], Read.AS_OTHER)

    assert {noted.read(e) for e in all_of_them[100_000::999]} == {Read.NOT_YET}
    assert {noted.read(e) for e in all_of_them[8:100_000:999]} == {Read.AS_LATEST}
    assert noted.read(all_of_them[7]) is Read.AS_BOTH
