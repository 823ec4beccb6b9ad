"""Inquiries: what is known of a block of candidates, asked of the ledger at once.

Most rows of most syncs say what was said of them last, word for word, and are asked
about once. What was touched but says the same costs little more; only the rest is
looked at closely.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from target_stairoids.dedup.rules import Known, Latest, is_newer, is_said_already

if TYPE_CHECKING:
    from collections.abc import Sequence

    from target_stairoids.ledger.entries import Verdict
    from target_stairoids.ledger.ledger import Ledger
    from target_stairoids.sending.mapped_record import Candidate
    from target_stairoids.sending.queue import SendQueue
    from target_stairoids.sending.write_buffer import WriteBuffer

Key = tuple[bytes, str]

#: What was said last of those of whom something may have to be said; None for nothing.
News = dict[Key, Latest | None]


class Answers(msgspec.Struct, frozen=True):
    """What is known of candidates.

    Attributes:
        moving: How those are settled whose version only takes the place of the latest
            one: it says the same and is newer, or it is the same spelt otherwise.
    """

    known: Known
    moving: dict[Key, Verdict]


class Inquiry:
    """Asks about candidates.

    Args:
        backlog: Knows what was settled and is not in the ledger yet.
        window: Knows what is under way.
        judges_age: Whether a newer state that says the same may still be too old.
    """

    def __init__(
        self,
        ledger: Ledger,
        backlog: WriteBuffer,
        window: SendQueue,
        *,
        judges_age: bool,
    ) -> None:
        self._ledger = ledger
        self._backlog = backlog
        self._window = window
        self._judges_age = judges_age

    def news_of(self, candidates: Sequence[Candidate]) -> News:
        """Return of whom something may have to be said, and what was said last.

        All others are duplicates: what was said last is what the record says, and so
        nobody need ask what became of each version.
        """
        news: News = {}
        marks: dict[str, list[tuple[bytes, bytes]]] = {}
        under_way = []
        is_quiet = not self._backlog and not self._window
        for candidate in candidates:
            if candidate.is_left_out:
                news[candidate.key] = None
            elif candidate.letter is not None or (
                not is_quiet and self._is_under_way(candidate)
            ):
                under_way.append(candidate)
            else:
                asked = marks.setdefault(candidate.compiled_mapping.name, [])
                asked.append((candidate.key[0], candidate.mark))
        news |= self._ledger.said_otherwise(marks)
        said = self._ledger.look_up((), {c.entity for c in under_way}).latest
        news |= {c.key: said.get(c.key) for c in under_way}
        return news

    def responses(self, candidates: Sequence[Candidate], news: News) -> Answers:
        """Return what is known of those of whom something may have to be said."""
        asked = [c for c in candidates if c.key in news and not c.is_left_out]
        often = Counter(candidate.key for candidate in asked)
        moving = {
            candidate.key: verdict
            for candidate in asked
            if often[candidate.key] == 1
            and (verdict := self._moved_on(candidate, news[candidate.key]))
        }
        rest = [candidate for candidate in asked if candidate.key not in moving]
        became = self._ledger.look_up({c.version for c in rest}, ()).settled
        known = Known(became, {key: said for key, said in news.items() if said})
        self._backlog.add_to(known, rest)
        return Answers(known, moving)

    def _is_under_way(self, candidate: Candidate) -> bool:
        """Say whether the ledger alone cannot tell what was said of an entity last."""
        return (
            candidate.letter is not None
            or self._backlog.speaks_of(candidate)
            or self._window.is_busy(candidate.entity)
        )

    def _moved_on(self, candidate: Candidate, latest: Latest | None) -> Verdict | None:
        """Return how a version is settled that only takes the latest one's place.

        Returns:
            None for any other, and where something else may be decided on it.
        """
        if latest is None or latest.content is None or self._is_under_way(candidate):
            return None
        position = candidate.position
        if latest.version == candidate.version:
            may_move = candidate.record.spelling is not None
        else:
            is_new = is_newer(position, latest.position)
            may_move = is_new and self.says_the_same(candidate, latest)
        return candidate.still_says(latest, position) if may_move else None

    def says_the_same(self, candidate: Candidate, latest: Latest | None) -> bool:
        """Say whether a version can only say what was said last.

        Where something else may be decided on it, its signal has to be made.
        """
        return (
            candidate.letter is None
            and not self._judges_age
            and not candidate.stream.is_baseline
            and not self._window.is_busy(candidate.entity)
            and is_said_already(latest, candidate.basis)
        )
